"""OpenAPI 3.1 documents, made from the tables of endpoints that are served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import cleandoc, getdoc
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from soorma_common import __version__
from soorma_common.errors import (
    Conflict,
    Forbidden,
    InvalidName,
    InvalidRequest,
    InvalidValue,
    LimitExceeded,
    ProtocolMismatch,
    SoormaError,
    Unavailable,
)
from soorma_common.names import NAME_SCHEMA
from soorma_common.protocol import PROTOCOL, PROTOCOL_HEADER
from soorma_platform.http.endpoints import Endpoint, Header, Names, Number, Parameter, Part
from soorma_platform.http.requests import UnsupportedMediaType
from soorma_platform.http.responses import JSON, PROBLEM
from soorma_platform.identity.door import TENANT_HEADER, USER_HEADER, headers_of

SCHEMAS = "#/components/schemas/"
LICENSE = {"name": "MIT", "identifier": "MIT"}
INTERNAL = "internal"

_STREAM = "text/event-stream"
_WHO = {TENANT_HEADER: "tenant", USER_HEADER: "user"}
_KEY = Header(
    "Idempotency-Key",
    "Whoever sends the same key again gets the first answer, for a day. With another request it is "
    "refused.",
)
_PROTOCOL = Header(
    PROTOCOL_HEADER,
    "The version of the protocol that the client speaks, if it says so. One of another version is "
    "refused.",
    word=str(PROTOCOL),
)
_PROTOCOL_SAID = {
    "description": "The version of the protocol.",
    "schema": _PROTOCOL.schema,
    "required": True,
}
_KEY_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "not": {"pattern": r'^[ \t]*"*\.{0,2}"*[ \t]*$'},
}
_EXAMPLES = {
    "block_id": "2b7e151628aed2a6abf7158809cf4f3c",
    "event_id": "6f1c7e4a-0b5d-4c7e-9a55-0d8f0c2f9b11",
    "group": "worker",
    "instance": "worker-1",
    "key": "goal",
    "name": "worker",
    "number": 1,
    "passage_id": "faq-7",
    "key_id": "0aa7ed319a9683fa",
    "kind": "skill",
    "path": "references/limits.md",
    "interaction_id": "said-1",
    "plan_id": "plan-1",
    "session_id": "s-1",
    "type": "order.placed",
    "version": 1,
    TENANT_HEADER: "acme",
    USER_HEADER: "ann",
}
_PROBLEM = {
    "title": "Problem",
    "description": "Why a request was refused (RFC 9457). `code` is stable; other members hold "
    "what a program needs.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
    },
}


def document(title: str, about: str, services: Mapping[str, Iterable[Endpoint]]) -> bytes:
    """Returns the document of some services, given by name, as JSON text."""
    tables = {service: list(endpoints) for service, endpoints in services.items()}
    shared = _Shared(endpoint for table in tables.values() for endpoint in table)
    paths: dict[str, dict[str, Any]] = {}
    for service, table in tables.items():
        for endpoint in table:
            paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(
                service, endpoint, table, shared
            )
    return msgspec.json.encode(
        {
            "openapi": "3.1.1",
            "info": {
                "title": title,
                "description": about,
                "version": __version__,
                "license": LICENSE,
            },
            "servers": [{"url": "/"}],
            "tags": [{"name": service} for service in services],
            "paths": paths,
            "components": {
                "schemas": {**shared.types.components, "Problem": _PROBLEM},
                "parameters": _shared_parameters(),
                "headers": {"Protocol": _PROTOCOL_SAID},
                "responses": dict(sorted(shared.problems.items())),
            },
        }
    )


class Types:
    """The schemas of all types that a document names."""

    def __init__(self, kinds: Iterable[Any]) -> None:
        parts = list(dict.fromkeys(part for kind in kinds for part in _parts(kind)))
        schemas, self.components = msgspec.json.schema_components(
            parts, ref_template=SCHEMAS + "{name}"
        )
        self._schemas = dict(zip(parts, schemas, strict=True))

    def schema(self, kind: Any) -> dict[str, Any]:
        """Returns the schema of one of the types, or of a union of several."""
        schemas = [self._schemas[part] for part in _parts(kind)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


class _Shared:
    """The parts that operations share: types, and refusals by their statuses and codes."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.types = Types(kind for endpoint in endpoints for kind in _kinds(endpoint))
        self.problems: dict[str, Any] = {}

    def problem(self, status: int, errors: list[type[SoormaError]]) -> dict[str, Any]:
        """Returns a refusal, as a reference."""
        codes = sorted({INTERNAL if kind is SoormaError else kind.code for kind in errors})
        key = f"{status}-{'-'.join(codes)}"
        self.problems[key] = _problem(status, codes, errors)
        return {"$ref": f"#/components/responses/{key}"}


def _parts(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (UnionType, Union) else (kind,)


def _kinds(endpoint: Endpoint) -> list[Any]:
    kinds = [endpoint.returns, *_bodies(endpoint).values(), *endpoint.also.values()]
    return [kind for kind in kinds if kind is not None]


def _bodies(endpoint: Endpoint) -> Mapping[str, Any]:
    """Returns the types of the body by media type."""
    return endpoint.body if isinstance(endpoint.body, Mapping) else {JSON: endpoint.body}


def operation_id(service: str, endpoint: Endpoint) -> str:
    """Returns the id of an endpoint's operation, which is unique in all services."""
    return f"{service}_{getattr(endpoint.run, '__name__', endpoint.method.lower())}"


def _operation(
    service: str, endpoint: Endpoint, table: list[Endpoint], shared: _Shared
) -> dict[str, Any]:
    summary, _, more = (getdoc(endpoint.run) or "").partition("\n")
    made: dict[str, Any] = {
        "operationId": operation_id(service, endpoint),
        "tags": [service],
        "summary": summary,
    }
    if more:
        made["description"] = cleandoc(more)
    if parameters := _parameters(endpoint):
        made["parameters"] = parameters
    if endpoint.body is not None:
        content = {
            media: {"schema": shared.types.schema(kind)}
            for media, kind in _bodies(endpoint).items()
        }
        for media, example in endpoint.examples.items():
            content[media]["example"] = example
        made["requestBody"] = {"required": True, "content": content}
    made["responses"] = {
        "200": _success(service, endpoint, table, shared.types),
        **_other_responses(endpoint, shared),
    }
    return made


# parameters


def _shared_parameters() -> dict[str, Any]:
    who = {
        _who_name(name, is_required=is_required): _header(_who(name, is_required=is_required))
        for name in _WHO
        for is_required in (True, False)
    }
    return {
        **who,
        "IdempotencyKey": {**_header(_KEY), "schema": _KEY_SCHEMA},
        "Protocol": _header(_PROTOCOL),
    }


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    parts = {part.name: part for part in endpoint.parts}
    found = [_path_parameter(name, parts.get(name)) for name in endpoint.names]
    shared = [
        _who_name(name, is_required=needed) for name, needed in headers_of(endpoint.access).items()
    ]
    if endpoint.idempotent:
        shared.append("IdempotencyKey")
    shared.append("Protocol")
    found += [{"$ref": f"#/components/parameters/{name}"} for name in shared]
    return (
        found + [_query(one) for one in endpoint.query] + [_header(one) for one in endpoint.headers]
    )


def _who(name: str, *, is_required: bool) -> Header:
    """Makes a header that names a tenant or user."""
    which = f"The {_WHO[name]} whose data is meant"
    return Header(
        name,
        f"{which}." if is_required else f"{which}; without it, of all.",
        is_required=is_required,
    )


def _who_name(name: str, *, is_required: bool) -> str:
    return f"{_WHO[name].title()}Id" if is_required else f"Any{_WHO[name].title()}Id"


def _path_parameter(name: str, part: Number | Part | None) -> dict[str, Any]:
    schema = {"type": "string", **NAME_SCHEMA} if part is None else part.schema
    return {"name": name, "in": "path", "required": True, "schema": schema, **_example(name)}


def _query(parameter: Parameter) -> dict[str, Any]:
    made = {
        "name": parameter.name,
        "in": "query",
        "description": parameter.about,
        "schema": parameter.schema,
    }
    return {**made, "style": "form", "explode": False} if isinstance(parameter, Names) else made


def _header(header: Header) -> dict[str, Any]:
    about: dict[str, Any] = {"name": header.name, "in": "header", "description": header.about}
    if header.is_required:
        about["required"] = True
    return {**about, "schema": header.schema, **_example(header.name)}


def _example(name: str) -> dict[str, Any]:
    return {"example": _EXAMPLES[name]} if name in _EXAMPLES else {}


# responses


def _success(
    service: str, endpoint: Endpoint, table: list[Endpoint], types: Types
) -> dict[str, Any]:
    made: dict[str, Any] = {"description": " ".join(map(_about, _parts(endpoint.returns)))}
    if endpoint.streams:
        made["description"] = (
            "Server-sent events, for as long as the connection lasts. The schema is that of each."
        )
        made["content"] = {_STREAM: {"schema": _sent_event(types.schema(endpoint.returns))}}
    else:
        made["content"] = {endpoint.media_type: {"schema": types.schema(endpoint.returns)}}
    made["headers"] = {PROTOCOL_HEADER: {"$ref": "#/components/headers/Protocol"}}
    if endpoint.tagged:
        made["headers"]["ETag"] = _etag(required=endpoint.method == "PUT")
    if links := _links(service, endpoint, table):
        made["links"] = links
    return made


def _sent_event(data: dict[str, Any]) -> dict[str, Any]:
    content = {"anyOf": [data, {"$ref": f"{SCHEMAS}Problem"}]}  # a stream that must end says why
    text = {"type": "string", "contentMediaType": JSON, "contentSchema": content}
    return {
        "type": "object",
        "properties": {
            "event": {"type": "string"},
            "id": {"type": "string", "pattern": "^[0-9]+$"},
            "data": text,
        },
    }


def _etag(*, required: bool) -> dict[str, Any]:
    about = "The revision of the key, in quotes."
    return {
        "description": about,
        "required": required,
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    }


def _about(kind: Any) -> str:
    """Returns the description of a type, from its docstring."""
    if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct | Exception):
        return "Done."
    return (getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")


def _other_responses(endpoint: Endpoint, shared: _Shared) -> dict[str, Any]:
    found: dict[int, Any] = {}
    if endpoint.tagged and endpoint.method == "GET":
        found[304] = {"description": "Nothing new.", "headers": {"ETag": _etag(required=True)}}
    for status, errors in _errors(endpoint).items():
        found[status] = shared.problem(status, errors)
    for status, kind in endpoint.also.items():
        found[status] = {
            "description": _about(kind),
            "content": {JSON: {"schema": shared.types.schema(kind)}},
        }
    return {str(status): found[status] for status in sorted(found)}


def _errors(endpoint: Endpoint) -> dict[int, list[type[SoormaError]]]:
    """Returns the errors that a request can end with, by status."""
    kinds: list[type[SoormaError]] = [
        Forbidden,
        Unavailable,
        SoormaError,
        InvalidRequest,
        ProtocolMismatch,
    ]
    kinds += endpoint.errors
    if (
        headers_of(endpoint.access)
        or endpoint.names
        or endpoint.query
        or endpoint.headers
        or endpoint.body
    ):
        kinds.append(InvalidName)
    if endpoint.body:
        kinds += [InvalidValue, LimitExceeded, UnsupportedMediaType]
    found: dict[int, list[type[SoormaError]]] = {}
    for kind in dict.fromkeys(kinds):
        found.setdefault(
            412 if endpoint.conditional and kind is Conflict else kind.status, []
        ).append(kind)
    return found


def _problem(status: int, codes: list[str], errors: list[type[SoormaError]]) -> dict[str, Any]:
    about = (
        "A fault of the platform; see its log."
        if INTERNAL in codes
        else " ".join(map(_about, errors))
    )
    exact = {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
    schema = {"allOf": [{"$ref": f"{SCHEMAS}Problem"}, exact]}
    return {"description": about, "content": {PROBLEM: {"schema": schema}}}


# links


def _links(service: str, endpoint: Endpoint, table: list[Endpoint]) -> dict[str, Any]:
    """Returns links from an endpoint that makes something to all that read or change it.

    They have the same names in the path.
    """
    known = (
        {name: f"$request.path.{name}" for name in endpoint.names}
        if endpoint.method == "PUT"
        else {}
    )
    known |= endpoint.gives
    return {
        operation_id(service, other): {
            "operationId": operation_id(service, other),
            "parameters": {f"path.{name}": known[name] for name in other.names}
            | _same_scope(endpoint, other),
        }
        for other in table
        if other is not endpoint
        and other.names
        and other.body is None
        and known.keys() >= set(other.names)
    }


def _same_scope(endpoint: Endpoint, other: Endpoint) -> dict[str, str]:
    passed_on, taken = headers_of(endpoint.access), headers_of(other.access)
    return {
        f"header.{name}": f"$request.header.{name}" for name in sorted(passed_on.keys() & taken)
    }
