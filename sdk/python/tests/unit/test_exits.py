"""Exit statuses: platform and command end with the same number for a type of error."""

from __future__ import annotations

import pytest

from soorma.cli.exits import Exit, exit_of
from soorma_common.errors import BY_CODE, SoormaError, Unavailable, from_problem, to_problem
from soorma_common.starting import FAILED, STATUSES, exit_status


@pytest.mark.parametrize("kind", STATUSES)
def test_the_command_ends_as_the_platform_does(kind: type[SoormaError]) -> None:
    error = kind("it cannot start")
    assert exit_of(error) == exit_status(error) == STATUSES[kind]


@pytest.mark.parametrize("kind", STATUSES)
def test_over_http_the_reason_is_that_it_is_unavailable(kind: type[SoormaError]) -> None:
    problem = to_problem(kind("it cannot start"))
    assert problem == to_problem(Unavailable("it cannot start"))
    assert type(from_problem(problem)) is Unavailable


def test_another_error_fails_the_start() -> None:
    assert exit_status(Unavailable("closed")) == FAILED == Exit.START_FAILED
    assert all(exit_of(kind("it went wrong")) != Exit.OK for kind in BY_CODE.values())
