"""The error tree: one code a class, the same error on both ends of a connection."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import msgspec
import pytest

import soorma.errors
from soorma_common.errors import BY_CODE, Conflict, SoormaError, from_problem, to_problem


def _tree(kind: type[SoormaError]) -> Iterator[type[SoormaError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == SoormaError.__module__:
            yield from _tree(child)


KINDS = list(_tree(SoormaError))


@pytest.mark.behaviour("errors.one-tree")
def test_every_class_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert {kind.code: kind for kind in KINDS} == BY_CODE


@pytest.mark.behaviour("errors.one-tree")
@pytest.mark.parametrize("kind", KINDS)
def test_every_class_says_what_it_means(kind: type[SoormaError]) -> None:
    assert kind.__doc__
    assert "code" in vars(kind)
    assert 400 <= kind.status <= 599


@pytest.mark.behaviour("errors.one-tree")
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_back_from_its_problem_document(kind: type[SoormaError]) -> None:
    error = kind("it went wrong", key="k", current_revision=7, path="$.a")
    problem = msgspec.json.decode(msgspec.json.encode(to_problem(error)))
    assert problem["code"] == kind.code
    assert problem["status"] == kind.status
    assert problem["detail"] == "it went wrong"
    assert problem["title"] == kind.__name__
    assert problem["type"].startswith("urn:soorma:problem:")
    again = from_problem(problem)
    assert type(again) is kind
    assert str(again) == again.message == "it went wrong"
    assert {name: again.details[name] for name in error.details} == error.details


@pytest.mark.behaviour("errors.python")
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_can_be_pickled_and_copied(kind: type[SoormaError]) -> None:
    error = kind("it went wrong", key="k", current_revision=7)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert (str(again), again.message, again.details) == (
            str(error),
            error.message,
            error.details,
        )
        assert again.current_revision == 7


@pytest.mark.behaviour("errors.one-tree")
def test_details_are_attributes_and_others_are_not() -> None:
    error = SoormaError("no", horizon=5)
    assert error.horizon == 5
    with pytest.raises(AttributeError, match="nothing"):
        _ = error.nothing
    assert not hasattr(error, "_private")


@pytest.mark.behaviour("errors.one-tree")
def test_what_a_class_may_tell_is_there() -> None:
    """A detail that this error lacks is None, so that nobody needs to check before reading it."""
    error = Conflict("the plan has moved on", plan_id="p", expected_revision=1)
    assert (error.plan_id, error.expected_revision, error.key, error.was_reserved) == (
        "p",
        1,
        None,
        None,
    )
    with pytest.raises(AttributeError):
        _ = error.horizon  # type: ignore[attr-defined]  # of another class
    with pytest.raises(AttributeError):
        _ = error.expected_revison  # type: ignore[attr-defined]  # misspelt, which mypy tells


@pytest.mark.behaviour("errors.one-tree")
@pytest.mark.parametrize(
    "problem",
    [
        {},
        {"code": "from the future", "detail": "new", "status": 418},
        {"title": "Bad Gateway"},
        {"message": "upstream failure"},
        {"detail": 5},
        {"self": 1, "kind": 2},
        {"code": ["list"]},
    ],
)
def test_any_document_is_some_error(problem: dict[str, object]) -> None:
    error = from_problem(problem)
    assert type(error) is SoormaError
    assert str(error)


@pytest.mark.behaviour("errors.python")
@pytest.mark.parametrize(
    ("name", "also"),
    [
        ("InvalidRequest", ValueError),
        ("KeyMissing", KeyError),
        ("WrongType", TypeError),
        ("Unavailable", ConnectionError),
        ("TimedOut", TimeoutError),
        ("HandlerEnded", RuntimeError),
        ("InvalidName", soorma.errors.InvalidRequest),
        ("InvalidValue", soorma.errors.InvalidRequest),
        ("KeyMissing", soorma.errors.NotFound),
    ],
)
def test_an_error_is_also_what_python_calls_it(name: str, also: type[Exception]) -> None:
    assert issubclass(getattr(soorma.errors, name), also)


@pytest.mark.behaviour("errors.one-tree")
def test_all_are_public() -> None:
    assert sorted(soorma.errors.__all__) == sorted(kind.__name__ for kind in KINDS)
    assert all(
        issubclass(getattr(soorma.errors, name), SoormaError) for name in soorma.errors.__all__
    )
