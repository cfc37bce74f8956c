"""Any value sent as a schema is either used or refused, and any used schema checks any payload."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soorma_common.errors import SoormaError
from soorma_common.registry import check_schema_size
from soorma_platform.work.schemas import LONGEST_PATH, LONGEST_TEXT, Schema

KEYWORDS = """
type properties items prefixItems allOf anyOf oneOf not if then else $ref $defs enum const \
required pattern
patternProperties additionalProperties minimum multipleOf maxLength uniqueItems contains \
minContains format $id $schema
$anchor $dynamicRef dependentRequired dependentSchemas dependencies unevaluatedProperties \
unevaluatedItems
contentSchema propertyNames definitions $vocabulary $comment
""".split()  # noqa: SIM905 - easier to read
TELLING = [
    "#",
    "#/$defs/a",
    "object",
    "array",
    "string",
    "a",
    r"(a*)*\1",
    "(",
    "date-time",
    "http://localhost:9/x",
]

plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(TELLING)
)
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "~/"]), inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=5)
    ),
    max_leaves=20,
)


@pytest.mark.behaviour("schemas.bounded")
@given(st.dictionaries(st.sampled_from(KEYWORDS), values, max_size=5), values)
def test_any_schema_is_used_or_refused(schema: dict[str, Any], payload: Any) -> None:
    try:
        check_schema_size("the schema", schema)
        made = Schema("the schema", schema)
    except SoormaError:
        return
    misfit = made.misfit(payload)
    assert misfit is None or (
        len(misfit.path) <= LONGEST_PATH and 0 < len(misfit.expected) <= LONGEST_TEXT
    )
