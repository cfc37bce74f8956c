"""The memory service over HTTP against plain dicts: every response of two plans' random lives."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest
from depth import at_depth, dice
from drawn_operations import HOURS, NAMES, NUMBER, PARTS, PLANS, VALUES, raw
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from platform_process import PlatformProcess
from running import Answer, Raw, path_of, platform_in, unique
from told_plans import Row, ToldPlan

from soorma_common.errors import Conflict, WrongType
from soorma_common.memory import Commit, PlanCommit
from soorma_common.operations import Cleanup, Delete, Set

pytestmark = pytest.mark.proof

VIEWS = ["value", "past", "keys", "many", "history", "actions", "changes", "plans"]


class PlansOverHttp(RuleBasedStateMachine):
    """A tenant and user of its own, two plans, and what they should hold."""

    platform: PlatformProcess

    def __init__(self) -> None:
        super().__init__()
        self.memory = Raw(self.platform.memory_url, unique("tenant"), unique("user"))
        self.plans = {"p": ToldPlan(), "a plan/ä": ToldPlan()}
        self.entries: dict[tuple[str, str], Any] = {}
        self.kept: list[tuple[partial[Answer], Answer]] = []
        self.slow_steps: set[str] = set()

    @initialize(allowed=st.sampled_from(["none"] * 5 + ["expiry", "kill"]))
    def allow_slow_steps(self, allowed: str) -> None:
        """Some lives have one step that takes its time."""
        self.slow_steps = {allowed}

    # changes

    @rule(
        wanted=st.lists(
            st.dictionaries(PLANS, PARTS, min_size=1, max_size=2), min_size=1, max_size=3
        ),
        data=st.data(),
    )
    def commits(self, wanted: list[dict[str, list[Any]]], data: st.DataObject) -> None:
        for one in wanted:
            self._commit(one, data)

    def _commit(self, wanted: dict[str, list[Any]], data: st.DataObject) -> None:
        parts = [self._part(plan, done, data) for plan, done in wanted.items()]
        request = partial(
            self.memory, "POST", "/v1/memory/commit", body=msgspec.json.encode(Commit(plans=parts))
        )
        answer = self._send(request, keyed=data.draw(st.booleans()))
        try:
            # what is stale is told first, of all plans: what follows was meant for other values
            for part in parts:
                self.plans[part.plan_id].check(part)
            changed = {part.plan_id: self.plans[part.plan_id].changed_by(part) for part in parts}
        except (Conflict, WrongType) as refusal:
            problem = (refusal.status, refusal.code)
            assert problem == (answer.status, answer.code)
            return
        assert answer.status == 200, answer.body
        assert answer.json["events"] == []
        assert answer.json["plans"] == [
            {"plan_id": plan, "revision": after.revision, "results": results}
            for plan, (after, results) in changed.items()
        ]
        self.plans.update({plan: after for plan, (after, _) in changed.items()})

    def _part(self, plan: str, wanted: list[Any], data: st.DataObject) -> PlanCommit:
        """Draws a part of a commit, whose reads and expected revision are mostly right."""
        now = self.plans[plan]
        reads = {key: now.revision_of(key) for key in data.draw(st.sets(NAMES, max_size=2))}
        if data.draw(st.integers(0, 9)) == 7:
            reads[NUMBER] = now.revision_of(NUMBER) + 1
        return PlanCommit(
            plan, wanted, reads, data.draw(st.sampled_from([None] * 8 + [now.revision, 1]))
        )

    def _send(self, request: partial[Answer], *, keyed: bool) -> Answer:
        """Sends a request; one with an idempotency key may be repeated later."""
        if keyed:
            request = partial(request, Idempotency_Key=unique("key"))
        answer = request()
        if keyed and answer.status == 200:
            self.kept.append((request, answer))
        return answer

    @rule(
        plan=PLANS, key=NAMES, data=st.data(), keyed=st.booleans(),
        ttl=st.sampled_from([None, None, HOURS]),
        condition=st.sampled_from(["none", "none", "right", "wrong", "missing"]),
    )  # fmt: skip
    def put(
        self,
        plan: str,
        key: str,
        data: st.DataObject,
        keyed: bool,
        ttl: float | None,
        condition: str,
    ) -> None:
        value = data.draw(st.sampled_from(VALUES[key]))
        content = {"value": value} if ttl is None else {"value": value, "ttl": ttl}
        expected, headers = self._condition(plan, key, condition)
        request = partial(self.memory, "PUT", path_of(plan, key), content, **headers)
        answer = self._send(request, keyed=keyed)
        operation = Set(key=key, value=raw(value), ttl=ttl, expected_revision=expected)
        if self._is_made(answer, plan, key, operation):
            entry = answer.json
            assert answer.headers["etag"] == f'"{self.plans[plan].revision}"'
            assert (entry["planId"], entry["key"], entry["value"]) == (plan, key, value)
            assert entry["revision"] == self.plans[plan].revision
            assert lifetime(entry) == ttl
            assert self._entry(plan, key) == entry

    @rule(
        plan=PLANS,
        key=NAMES,
        keyed=st.booleans(),
        condition=st.sampled_from(["none", "none", "right", "wrong"]),
    )
    def delete(self, plan: str, key: str, keyed: bool, condition: str) -> None:
        was_there = self.plans[plan].revision_of(key) > 0
        expected, headers = self._condition(plan, key, condition)
        answer = self._send(
            partial(self.memory, "DELETE", path_of(plan, key), **headers), keyed=keyed
        )
        if self._is_made(answer, plan, key, Delete(key=key, expected_revision=expected)):
            assert answer.json == {"deleted": was_there, "revision": self.plans[plan].revision}

    @rule(plan=PLANS, keyed=st.booleans(), sure=st.integers(0, 2))
    def cleanup(self, plan: str, keyed: bool, sure: int) -> None:
        if sure != 1:
            return
        answer = self._send(partial(self.memory, "DELETE", path_of(plan)), keyed=keyed)
        count = len(self.plans[plan].keys)
        assert self._is_made(answer, plan, "", Cleanup())
        assert answer.json == {"deleted": count, "revision": self.plans[plan].revision}

    def _condition(self, plan: str, key: str, kind: str) -> tuple[int | None, dict[str, str]]:
        """The revision that a request expects, and the header for it."""
        if kind == "none":
            return None, {}
        now = self.plans[plan].revision_of(key)
        if kind == "missing" or (kind == "right" and now == 0):
            return 0, {"If_None_Match": "*"}
        expected = now if kind == "right" else now + 1
        return expected, {"If_Match": f'"{expected}"'}

    def _is_made(self, answer: Answer, plan: str, key: str, operation: Any) -> bool:
        """True if the change was made, as it should be; the model then makes it, too."""
        try:
            self.plans[plan], _ = self.plans[plan].changed_by(PlanCommit(plan, [operation]))
        except Conflict:
            told = answer.json
            assert (answer.status, answer.code) == (412, "conflict")
            assert (told["plan_id"], told["key"]) == (plan, key)
            assert told["expected_revision"] == operation.expected_revision
            assert told["current_revision"] == self.plans[plan].revision_of(key)
            return False
        assert answer.status == 200, answer.body
        return True

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), changed=st.booleans())
    def ask_again(self, data: st.DataObject, changed: bool) -> None:
        """Checks that a repeated request gets its first response, another under its key none."""
        request, first = data.draw(st.sampled_from(self.kept))
        if not changed:
            assert request().body == first.body
            return
        key = request.keywords["Idempotency_Key"]
        other = self.memory("PUT", path_of("p", NUMBER), {"value": "other"}, Idempotency_Key=key)
        assert (other.status, other.code) == (422, "idempotency_mismatch")

    @precondition(lambda self: "kill" in self.slow_steps)
    @rule()
    def kill(self) -> None:
        """Restarts the platform, which keeps what was acknowledged, and first responses."""
        self.slow_steps.clear()
        self.platform.restart()

    @precondition(lambda self: "expiry" in self.slow_steps)
    @rule(plan=PLANS, key=NAMES)
    def expire(self, plan: str, key: str) -> None:
        """Upkeep takes up to a second."""
        self.slow_steps.clear()
        assert self.memory("PUT", path_of(plan, key), {"value": 1, "ttl": 0.02}).status == 200
        before, _ = self.plans[plan].changed_by(
            PlanCommit(plan, [Set(key=key, value=raw(1), ttl=0.02)])
        )
        self.plans[plan] = before.expired()
        with self.memory.stream(
            f"/v1/memory/watch/{quoted(plan)}?after={before.revision}"
        ) as stream:
            kind, identity, told = stream.next()
        assert (kind, identity) == ("commit", str(before.revision + 1))
        assert [row_of(change) for change in told["changes"]] == self.plans[plan].rows[-1:]

    # what is told

    @rule(plan=PLANS, key=NAMES, data=st.data(), view=st.sampled_from(VIEWS))
    def look(self, plan: str, key: str, data: st.DataObject, view: str) -> None:
        """One rule for all views, so that most steps change something."""
        getattr(self, f"_see_{view}")(plan, key, data)

    def _entry(self, plan: str, key: str) -> Any:
        got = self.memory("GET", path_of(plan, key))
        assert got.status == 200
        return got.json

    def _see_value(self, plan: str, key: str, _: st.DataObject) -> None:
        found = self.plans[plan].keys.get(key)
        got = self.memory("GET", path_of(plan, key))
        if found is None:
            assert (got.status, got.code, got.json["key"]) == (404, "key_missing", key)
            return
        tag = f'"{found.revision}"'
        assert (got.status, got.headers["etag"], got.json["value"]) == (200, tag, found.value)
        for known, status in ((tag, 304), (f'W/{tag}, "x"', 304), (f'"{found.revision + 1}"', 200)):
            assert self.memory("GET", path_of(plan, key), If_None_Match=known).status == status

    def _see_past(self, plan: str, key: str, data: st.DataObject) -> None:
        now = self.plans[plan]
        revision = data.draw(st.integers(0, now.revision + 1))
        got = self.memory("GET", f"{path_of(plan, key)}?revision={revision}")
        if revision > now.revision:
            assert (got.status, got.code) == (404, "not_found")
        elif revision < now.horizon:
            assert (got.status, got.code, got.json["horizon"]) == (410, "history_gone", now.horizon)
        elif key in now.past[revision]:
            assert got.json == {
                "planId": plan,
                "key": key,
                "value": now.past[revision][key],
                "at": revision,
            }
        else:
            assert (got.status, got.code) == (404, "key_missing")

    def _see_keys(self, plan: str, _: str, data: st.DataObject) -> None:
        limit, prefix = (
            data.draw(st.integers(1, 5)),
            data.draw(st.sampled_from(["", "n", "list/ä", "%"])),
        )
        names: list[str] = []
        after: str | None = ""
        while after is not None:
            asked = query(values="false", limit=limit, prefix=prefix, after=after)
            page = self.memory("GET", f"{path_of(plan)}?{asked}").json
            assert len(page["keys"]) <= limit
            names += page["keys"]
            after = page["next"]
        assert names == sorted(key for key in self.plans[plan].keys if key.startswith(prefix))

    def _see_many(self, plan: str, _: str, data: st.DataObject) -> None:
        now, keys = self.plans[plan], data.draw(st.lists(NAMES, max_size=3))
        told = self.memory("POST", f"/v1/memory/many/{quoted(plan)}", {"keys": keys}).json
        assert (told["plan_id"], told["revision"]) == (plan, now.revision)
        values = {
            key: (entry["value"], entry["revision"]) for key, entry in told["entries"].items()
        }
        assert values == {
            key: (now.keys[key].value, now.keys[key].revision) for key in keys if key in now.keys
        }

    def _see_history(self, plan: str, key: str, data: st.DataObject) -> None:
        now, limit = self.plans[plan], data.draw(st.integers(1, 7))
        of_key = {"key": key} if data.draw(st.booleans()) else {}
        rows: list[Row] = []
        after: int | None = now.horizon
        while after is not None:
            asked = query(limit=limit, after=after, **of_key)
            page = self.memory("GET", f"/v1/memory/history/{quoted(plan)}?{asked}").json
            assert (page["revision"], page["horizon"]) == (now.revision, now.horizon)
            rows += map(row_of, page["changes"])
            after = page["next"]
        assert rows == [
            row
            for row in now.rows
            if row.revision > now.horizon and row.key == of_key.get("key", row.key)
        ]

    def _see_actions(self, plan: str, _: str, data: st.DataObject) -> None:
        limit = data.draw(st.integers(1, 5))
        actions: list[tuple[int, str]] = []
        after: int | None = 0
        while after is not None:
            page = self.memory(
                "GET", f"/v1/memory/actions/{quoted(plan)}?limit={limit}&after={after}"
            ).json
            actions += [(action["number"], action["name"]) for action in page["actions"]]
            after = page["next"]
        assert actions == list(enumerate(self.plans[plan].actions, 1))

    def _see_changes(self, plan: str, _: str, data: st.DataObject) -> None:
        now = self.plans[plan]
        after = data.draw(st.integers(now.horizon, now.revision))
        wanted = [
            (rev, list(rows))
            for rev, rows in groupby(now.rows, lambda row: row.revision)
            if rev > after
        ]
        with self.memory.stream(f"/v1/memory/watch/{quoted(plan)}?after={after}") as stream:
            for revision, rows in wanted:
                kind, identity, told = stream.next()
                assert (kind, identity, told["revision"]) == ("commit", str(revision), revision)
                assert [row_of(change) for change in told["changes"]] == rows

    def _see_plans(self, *_: Any) -> None:
        told = self.memory("GET", "/v1/memory/working").json["plans"]
        assert {
            one["plan_id"]: (one["revision"], one["keys"], one["actions"], "expires_at" in one)
            for one in told
        } == {
            name: (plan.revision, len(plan.keys), len(plan.actions), plan.expires_at is not None)
            for name, plan in self.plans.items()
            if plan.is_listed
        }

    @invariant()
    def listings_are_the_model(self) -> None:
        for name, plan in self.plans.items():
            entries = {entry["key"]: entry for entry in self._entries(name)}
            assert list(entries) == sorted(plan.keys)
            assert {key: (entry["value"], entry["revision"]) for key, entry in entries.items()} == {
                key: (kept.value, kept.revision) for key, kept in plan.keys.items()
            }
            self._check_identities(name, entries)

    def _entries(self, plan: str) -> Iterator[dict[str, Any]]:
        """All entries of a plan, in pages of two."""
        after: str | None = ""
        while after is not None:
            page = self.memory("GET", f"{path_of(plan)}?{query(limit=2, after=after)}").json
            assert (page["plan_id"], page["revision"]) == (plan, self.plans[plan].revision)
            assert len(page["entries"]) <= 2
            yield from page["entries"]
            after = page["next"]

    def _check_identities(self, plan: str, entries: dict[str, Any]) -> None:
        """A key's id never changes, and times rise with revisions."""
        for key, entry in entries.items():
            assert self.entries.setdefault((plan, key), entry["id"]) == entry["id"]
        in_order = sorted(entries.values(), key=lambda entry: entry["revision"])
        times = [datetime.fromisoformat(entry["updated_at"]) for entry in in_order]
        assert times == sorted(times)


def quoted(name: str) -> str:
    return quote(name, safe="")


def query(**given: Any) -> str:
    return urlencode(given)


def row_of(change: dict[str, Any]) -> Row:
    return Row(change["revision"], change["op"], change.get("key"), change.get("argument"))


def lifetime(entry: dict[str, Any]) -> float | None:
    """Seconds from the write to its end."""
    if entry["expiresAt"] is None:
        return None
    ends, begins = (datetime.fromisoformat(entry[name]) for name in ("expiresAt", "updatedAt"))
    return (ends - begins).total_seconds()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    with platform_in(tmp_path_factory.mktemp("plans")) as platform:
        yield platform


@pytest.mark.behaviour("proofs.model")
@pytest.mark.parametrize("run", range(at_depth(1, 6)))
def test_a_life_of_plans_over_http(running: PlatformProcess, run: int) -> None:
    @seed(dice(f"plans over http {run}").getrandbits(64))
    class Machine(PlansOverHttp):
        platform = running

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=at_depth(20, 80),
            stateful_step_count=50,
            deadline=None,
            # shrinking takes minutes
            phases=at_depth([Phase.generate], [Phase.generate, Phase.shrink]),
            report_multiple_bugs=False,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
