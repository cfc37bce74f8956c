"""Procedural memory: how things are done, as skills, prompts and rules in versions.

What is stored, activated or counted belongs to a commit; the rest is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from math import sqrt
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from soorma_common.causes import Cause
from soorma_common.errors import InvalidRequest, InvalidValue
from soorma_common.limits import Limits
from soorma_common.names import Name, check_name
from soorma_common.semantic import (
    MOST_ALIASES,
    MOST_SOURCES,
    MOST_TAGS,
    Bound,
    Content,
    Limit,
    MemoryOperation,
    Metadata,
    Mode,
    QueryText,
    Score,
    Sources,
    Tags,
    Wait,
    check_bounds,
    check_content,
    check_metadata,
    check_names,
    check_query,
    check_text,
    fields_of,
)

Kind: TypeAlias = Literal["skill", "prompt", "rule"]
KINDS = ("skill", "prompt", "rule")
"""A skill is how something is done, a prompt a text for a model, a rule what always holds."""
LONGEST_DESCRIPTION = 1_024
"""Maximum characters of a description."""
MOST_FILES = 100
LONGEST_PATH = 255
"""Maximum characters of the path of a file."""
MOST_ACTIVATIONS = 100
"""Activations of a procedure that can be rolled back."""
MOST_VALUES = 64
"""Maximum values of one condition."""
Z = 1.959963984540054
"""The standard normal distribution's quantile for a confidence of 95 % on both sides."""

Agents: TypeAlias = Annotated[
    list[Name], msgspec.Meta(extra_json_schema={"maxItems": MOST_ALIASES})
]
Description: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        extra_json_schema={
            "maxLength": LONGEST_DESCRIPTION,
            "pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$",
        }
    ),
]
VersionNumber: TypeAlias = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1})]
# Without \s, which is not the same in all dialects of patterns.
_FILE_NAME = r"[^ ./\\:\x00-\x1f\x7f-\x9f][^/\\:\x00-\x1f\x7f-\x9f]*"
PATH_PATTERN = f"^{_FILE_NAME}(/{_FILE_NAME})*$"
"""Names with / between them, of which none begins with a dot or a blank."""
PATH_SCHEMA: dict[str, Any] = {"maxLength": LONGEST_PATH, "pattern": PATH_PATTERN}
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
FileContent: TypeAlias = Annotated[bytes, msgspec.Meta(extra_json_schema={"pattern": _BASE64})]
Files: TypeAlias = Annotated[
    dict[str, FileContent],
    msgspec.Meta(extra_json_schema={"maxProperties": MOST_FILES, "propertyNames": PATH_SCHEMA}),
]
Scalar: TypeAlias = str | int | float | bool


_path = re.compile(PATH_PATTERN)


class Procedure(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A version of a skill, prompt or rule to be stored.

    `description` says what it is for: that is what a search goes by, or by its content without
    one. It applies to these `agents`, to all if there are none, and where each of its `conditions`
    is a fact: a name with a value, or with a list of values. `files` belong to it, by path.
    """

    name: Name
    content: Content
    kind: Kind = "skill"
    id: Name | None = None
    description: Description | None = None
    agents: Agents = []
    conditions: Metadata | msgspec.UnsetType = msgspec.UNSET
    tags: Tags = []
    metadata: Metadata | msgspec.UnsetType = msgspec.UNSET
    source: Name | None = None
    files: Files = {}
    is_public: bool = False
    activate: bool = True
    derived_from: Sources = []
    plan_id: Name | None = None
    """of the plan that it comes from; in a handler, that of the event unless given"""


class StoreProcedure(Procedure, tag_field="op", tag="store_procedure"):
    """Stores a procedure, or a new version of it, and activates that.

    A version that is equal to one stored before is neither stored nor activated again. From a
    handler it is a proposal, which is not active until an application activates it.
    """


class Named(MemoryOperation, kw_only=True):
    """A change of a procedure: of the user's own, or with `is_public` of the tenant's."""

    name: Name
    kind: Kind = "skill"
    is_public: bool = False
    id: Name | None = None


class ActivateProcedure(Named, tag="activate_procedure"):
    """Makes a version the active one; without a number the newest."""

    version: VersionNumber | None = None


class RollBackProcedure(Named, tag="roll_back_procedure"):
    """Makes active what was active before the last activation or retirement."""


class RetireProcedure(Named, tag="retire_procedure"):
    """Makes no version active; all of them stay."""


class CountOutcome(Named, tag="count_outcome"):
    """Counts that what a version says has succeeded, or failed, once."""

    version: VersionNumber
    succeeded: bool


class UseProcedure(MemoryOperation, tag="use_procedure"):
    """Notes that a plan has used a version: how the plan ends is counted for it."""

    id: Name
    plan_id: Name | None = None
    """the plan that has used it; in a handler, that of the event unless given"""


AnyProcedureOperation: TypeAlias = (
    StoreProcedure
    | ActivateProcedure
    | RollBackProcedure
    | RetireProcedure
    | CountOutcome
    | UseProcedure
)


class VersionInfo(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A version of a procedure without its content.

    `succeeded` and `failed` count the plans that have used it and ended so. `success` is the lower
    bound of its success rate that follows with a confidence of 95 %. `files` are the sizes of its
    files in bytes, by path.
    """

    id: str
    kind: str
    name: str
    version: int
    is_active: bool
    created_at: datetime
    updated_at: datetime
    trust: str
    description: str | None = None
    agents: list[str] = []
    conditions: Any = None
    tags: list[str] = []
    metadata: Any = None
    source: str | None = None
    files: dict[str, int] = {}
    is_public: bool = False
    is_proposed: bool = False
    """true if a handler has proposed it, and nobody has activated it yet"""
    succeeded: int = 0
    failed: int = 0
    success: float = 0.0
    derived_from: list[str] = []
    plan_id: str | None = None
    cause: Cause = Cause()


class ProcedureVersion(VersionInfo, omit_defaults=True, kw_only=True):
    """A version of a procedure with its content."""

    content: str


class ProcedureHit(ProcedureVersion, omit_defaults=True, kw_only=True):
    """A version that applies; `score` from 0 to 1 says how far it is about the context, if any."""

    score: float | None = None


class ProcedureInfo(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A procedure: how many versions it has, the last, the active, and how many are proposals.

    `succeeded`, `failed` and `success` are those of the active version, 0 without one.
    """

    number: int
    kind: str
    name: str
    versions: int
    newest: int
    active: int | None = None
    proposed: int = 0
    succeeded: int = 0
    failed: int = 0
    success: float = 0.0
    is_public: bool = False
    description: str | None = None
    """of the active version, else of the newest"""
    updated_at: datetime


class ProcedurePage(msgspec.Struct):
    """Procedures that a user may read, by number."""

    procedures: list[ProcedureInfo]
    next: int | None


class VersionPage(msgspec.Struct):
    """Versions of a procedure, the newest first."""

    versions: list[VersionInfo]
    next: int | None


class ProcedureFile(msgspec.Struct):
    """A file of a version; `content` is in base64."""

    path: str
    content: bytes


class ProcedureBody(msgspec.Struct, forbid_unknown_fields=True):
    """The procedures to store in one commit."""

    procedures: Annotated[list[Procedure], msgspec.Meta(extra_json_schema={"minItems": 1})]


class Which(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Whether the tenant's procedure is meant, instead of the user's own."""

    is_public: bool = False


class ActivateBody(Which, omit_defaults=True):
    """The version to activate; without a number the newest."""

    version: VersionNumber | None = None


class OutcomeBody(Which, omit_defaults=True, kw_only=True):
    """How something ended that was done by a version."""

    version: VersionNumber
    succeeded: bool


class RelevantBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What is to be done, by whom, and what is known about it.

    Without a `context`, all that apply are meant.
    """

    agent_id: Name | None = None
    context: QueryText | None = None
    limit: Limit = 5
    kind: Kind = "skill"
    facts: Metadata | msgspec.UnsetType = msgspec.UNSET
    max_tokens: Bound | None = None
    min_score: Score | None = None
    mode: Mode = "hybrid"
    wait: Wait | None = None


class ProcedureHits(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The active procedures that apply and are about the context, the most successful first.

    `applying` counts all that apply, whatever they are about. `mode`, `min_score` and `unembedded`
    are as in `Hits`.
    """

    procedures: list[ProcedureHit]
    applying: int
    mode: Mode
    min_score: float = 0.0
    model: str | None = None
    unembedded: int = 0
    is_calibrated: bool = True

    def __iter__(self) -> Iterator[ProcedureHit]:
        return iter(self.procedures)

    def __len__(self) -> int:
        return len(self.procedures)

    def __getitem__(self, number: int) -> ProcedureHit:
        return self.procedures[number]


def check_procedure(operation: AnyProcedureOperation, limits: Limits) -> None:
    """Raises InvalidRequest, InvalidValue or LimitExceeded for what cannot be done."""
    if operation.id is not None:
        check_name("id", operation.id)
    if isinstance(operation, UseProcedure):
        if operation.plan_id is not None:
            check_name("plan_id", operation.plan_id)
    elif isinstance(operation, StoreProcedure):
        check_store_procedure(operation, limits)
    else:
        check_named(operation.kind, operation.name)
        version = getattr(operation, "version", None)
        if version is not None and version < 1:
            raise InvalidRequest(f"versions count from 1; there is no version {version}")


def check_named(kind: str, name: str) -> None:
    """Raises InvalidRequest unless a procedure can have this kind and name."""
    if kind not in KINDS:
        raise InvalidRequest(f"kind is one of {', '.join(KINDS)}, not {kind!r:.40}")
    check_name("name", name)


def check_store_procedure(operation: StoreProcedure, limits: Limits) -> None:
    """Raises InvalidRequest, InvalidValue or LimitExceeded if a version cannot be stored."""
    check_named(operation.kind, operation.name)
    check_content(operation.content, limits)
    if (description := operation.description) is not None:
        check_text("description", description)
        if not description.strip():
            raise InvalidValue("the description is empty: leave it out", path="description")
        if len(description) > LONGEST_DESCRIPTION:
            raise InvalidRequest(
                f"a description has at most {LONGEST_DESCRIPTION:,} characters, not "
                f"{len(description):,}; what is longer belongs into the content"
            )
    for name in ("source", "plan_id"):
        if (given := getattr(operation, name)) is not None:
            check_name(name, given)
    check_names("agents", operation.agents, MOST_ALIASES)
    check_names("tags", operation.tags, MOST_TAGS)
    check_names("derived_from", operation.derived_from, MOST_SOURCES)
    check_metadata(operation.metadata)
    check_conditions(operation.conditions)
    _check_files(operation, limits)


def check_conditions(conditions: msgspec.Raw | msgspec.UnsetType) -> None:
    """Raises InvalidRequest or InvalidValue unless each is a name with scalars."""
    check_metadata(conditions, "conditions")
    for name, value in (fields_of(conditions) or {}).items():
        values = value if isinstance(value, list) else [value]
        is_plain = all(isinstance(one, Scalar) for one in values)
        if not is_plain or not 1 <= len(values) <= MOST_VALUES:
            raise InvalidRequest(
                f"the condition {name!r} is a text, a number or a boolean, or a list of 1 to "
                f"{MOST_VALUES} of these"
            )


def check_facts(facts: msgspec.Raw | msgspec.UnsetType) -> None:
    """Raises InvalidRequest or InvalidValue unless each is a name with a scalar."""
    check_metadata(facts, "facts")
    for name, value in (fields_of(facts) or {}).items():
        if not isinstance(value, Scalar):
            raise InvalidRequest(f"the fact {name!r} is a text, a number or a boolean")


def check_relevant(body: RelevantBody) -> None:
    """Raises InvalidRequest if these procedures cannot be asked for."""
    if body.kind not in KINDS:
        raise InvalidRequest(f"kind is one of {', '.join(KINDS)}, not {body.kind!r:.40}")
    if body.agent_id is not None:
        check_name("agent_id", body.agent_id)
    if body.context is not None:
        check_query(body.context, body, "context")
    else:
        check_bounds(body)
    check_facts(body.facts)


def _check_files(operation: StoreProcedure, limits: Limits) -> None:
    if len(operation.files) > MOST_FILES:
        raise InvalidRequest(f"it has at most {MOST_FILES} files, not {len(operation.files)}")
    size = len(operation.content.encode())
    for path, content in operation.files.items():
        check_path(path)
        size += len(content)
        limits.check("passage_bytes", size, "the skill with its files, in bytes,")


def check_path(path: str) -> None:
    """Raises InvalidRequest unless this is the path of a file within the folder of a skill."""
    check_text("the path of a file", path)
    if len(path) > LONGEST_PATH:
        raise InvalidRequest(
            f"the path of a file has at most {LONGEST_PATH} characters, not {len(path)}"
        )
    if not _path.search(path) or path.endswith("\n"):
        raise InvalidRequest(
            f"{path!r} is no path within the folder of a skill: names with / between them, without "
            "\\\\, colons and control characters, and none that begins with a dot or a blank"
        )
    if path.split("/", maxsplit=1)[0].casefold() == "skill.md":
        raise InvalidRequest("SKILL.md is made of the skill itself, and so is none of its files")


def applies(
    agents: list[str], conditions: dict[str, Any], agent_id: str | None, facts: dict[str, Any]
) -> bool:
    """Returns whether a procedure is for an agent, and all of its conditions are facts."""
    if agents and agent_id not in agents:
        return False
    for name, value in conditions.items():
        values = value if isinstance(value, list) else [value]
        if name not in facts or not any(_same(facts[name], one) for one in values):
            return False
    return True


def _same(one: Scalar, other: Scalar) -> bool:
    """Returns whether two values are equal in JSON, where true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def lower_bound(succeeded: int, failed: int) -> float:
    """Returns the lower bound of a success rate: Wilson's score interval at 95 %.

    It is 0 without a success, also if nothing was tried.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference,
    Journal of the American Statistical Association 22 (1927).
    """
    tried = succeeded + failed
    if not succeeded:
        return 0.0
    rate = succeeded / tried
    middle = rate + Z * Z / (2 * tried)
    spread = Z * sqrt(rate * (1 - rate) / tried + Z * Z / (4 * tried * tried))
    return (middle - spread) / (1 + Z * Z / tried)
