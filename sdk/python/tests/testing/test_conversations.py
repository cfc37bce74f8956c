"""Episodic memory as an author meets it: what was said, by session and agent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from soorma import HandlerContext, RetryPolicy, Worker
from soorma.errors import (
    Forbidden,
    InvalidName,
    InvalidRequest,
    InvalidValue,
    LimitExceeded,
    NotFound,
)
from soorma.testing import LocalPlatform, WordEmbedder

FACTS = "business-facts"


@pytest.fixture
def worker() -> Worker:
    return Worker("cook", retry=RetryPolicy(max_attempts=3, first_delay=0), max_concurrency=64)


async def talk(memory: Any, session_id: str, count: int, **more: Any) -> list[str]:
    ids: list[str] = await memory.log_interactions(
        [
            {
                "agent_id": "cook",
                "role": "assistant" if number % 2 else "user",
                "content": f"Sentence {number} of {session_id}.",
                "session_id": session_id,
            }
            for number in range(count)
        ],
        **more,
    )
    return ids


def said(history: Any) -> list[str]:
    return [one.content for one in history.interactions]


@pytest.mark.behaviour("episodes.history")
async def test_the_newest_interactions_come_as_chat_messages(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    first = await memory.log_interaction(
        "cook", "user", "I am a vegetarian.", metadata={"channel": "web"}, session_id="s"
    )
    await memory.log_interaction("cook", "assistant", "I will remember that.", session_id="s")
    await memory.log_interaction("waiter", "tool", "Table 4 is free.")
    history = await memory.get_recent_history(session_id="s")
    assert history.messages() == [
        {"role": "user", "content": "I am a vegetarian."},
        {"role": "assistant", "content": "I will remember that."},
    ]
    assert history.next is None
    one = history.interactions[0]
    assert (one.id, one.agent_id, one.session_id, one.metadata, one.trust) == (
        first, "cook", "s", {"channel": "web"}, "application",
    )  # fmt: skip
    assert said(await memory.get_recent_history("waiter")) == ["Table 4 is free."]
    assert len((await memory.get_recent_history()).interactions) == 3
    assert said(await memory.get_recent_history(limit=1)) == ["Table 4 is free."]
    assert said(await memory.get_recent_history("waiter", session_id="s")) == []
    assert said(await memory.get_recent_history(session_id="unknown")) == []


@pytest.mark.behaviour("episodes.history")
async def test_older_ones_follow_page_by_page_and_none_twice(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    await talk(memory, "s", 25)
    await talk(memory, "t", 3)
    found: list[str] = []
    before = None
    while True:
        page = await memory.get_recent_history(session_id="s", limit=10, before=before)
        found = said(page) + found
        before = page.next
        if before is None:
            break
        await memory.log_interaction("cook", "user", "Said meanwhile.", session_id="s")
    assert found == [f"Sentence {number} of s." for number in range(25)]
    exported = [one.content async for one in memory.export_session("s")]
    assert exported[-25:] == found[::-1]


@pytest.mark.behaviour("episodes.by-id", "episodes.scope")
async def test_an_interaction_is_read_by_its_id(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    memory = soorma_platform.context.memory
    logged = await memory.log_interaction(
        "cook", "user", "No meat.", session_id="s", metadata={"k": 1}
    )
    found = await memory.get_interaction(logged)
    assert found == (await memory.get_recent_history()).interactions[0]
    assert (found.content, found.session_id, found.metadata) == ("No meat.", "s", {"k": 1})
    passage = await memory.store_knowledge("The user eats no meat.")
    for call in (
        memory.get_interaction(logged, user_id="bob"),
        memory.get_interaction(passage),
        memory.get_interaction("nothing"),
    ):
        with pytest.raises(NotFound, match="no interaction"):
            await call
    seen: list[str] = []

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        mine = await context.memory.log_interaction(None, "assistant", "Noted.")
        read = [await context.memory.get_interaction(one) for one in (mine, logged)]
        seen.extend(one.content for one in read)

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={})
    await soorma_platform.settle()
    assert seen == ["Noted.", "No meat."]


@pytest.mark.behaviour("episodes.tokens")
async def test_a_history_keeps_within_a_token_bound(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    await talk(memory, "s", 20)
    history = await memory.get_recent_history(session_id="s", max_tokens=20)
    assert said(history) == ["Sentence 17 of s.", "Sentence 18 of s.", "Sentence 19 of s."] or (
        sum(len(text) for text in said(history)) <= 80 and said(history)[-1] == "Sentence 19 of s."
    )
    assert history.next is not None
    older = await memory.get_recent_history(session_id="s", before=history.next, limit=2)
    assert said(older)[-1] == f"Sentence {19 - len(history.interactions)} of s."
    assert said(await memory.get_recent_history(session_id="s", max_tokens=1)) == []


@pytest.mark.behaviour("episodes.sessions")
async def test_sessions_have_names_counts_and_an_order(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    await talk(memory, "first", 2)
    await talk(memory, "second", 3)
    assert [one.session_id async for one in memory.list_sessions()] == ["second", "first"]
    await memory.name_session("first", "Dinner")
    session = await memory.get_session("first")
    assert (session.name, session.interactions) == ("Dinner", 2)
    await memory.name_session("first", None)
    assert (await memory.get_session("first")).name is None
    for call in (memory.get_session("third"), memory.name_session("third", "x")):
        with pytest.raises(NotFound, match="no session 'third'"):
            await call
    assert [one async for one in memory.list_sessions(user_id="bob")] == []


@pytest.mark.behaviour("episodes.named")
async def test_a_handler_names_a_session_when_it_returns(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    memory = soorma_platform.context.memory
    await talk(memory, "s", 1)
    seen: list[Any] = []

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        mine = context.memory
        await mine.name_session("s", f"Attempt {context.attempt}")
        await mine.log_interaction(None, "assistant", "Noted.", session_id="s")
        await mine.log_interaction(None, "assistant", "Begun.", session_id="new")
        await mine.name_session("new", "New")
        seen.append([await mine.get_session(name) for name in ("s", "new")])
        seen.append((await memory.get_session("s")).name)
        with pytest.raises(NotFound, match="no session 'other'"):
            await mine.get_session("other")
        if context.attempt == 1:
            raise ValueError("not yet")

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={})
    await soorma_platform.settle()
    before, outside = seen[2:]
    assert [(one.name, one.interactions) for one in before] == [("Attempt 2", 2), ("New", 1)]
    assert [one.created_at is None for one in before] == [False, True]
    assert outside is None, "a handler that failed has named nothing"
    after = [await memory.get_session(name) for name in ("s", "new")]
    assert [(one.name, one.interactions) for one in after] == [("Attempt 2", 2), ("New", 1)]


@pytest.mark.behaviour("knowledge.uncommitted", "episodes.uncommitted")
async def test_what_is_not_committed_has_no_time_yet(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    seen: list[Any] = []

    @worker.on_event("note", topic=FACTS)
    async def note(event: dict[str, Any], context: HandlerContext) -> None:
        mine = context.memory
        said_id = await mine.log_interaction(None, "assistant", "The soup is cold.")
        known_id = await mine.store_knowledge("The soup of the day is leek.")
        seen.extend(
            [
                await mine.get_interaction(said_id),
                (await mine.get_recent_history()).interactions[-1],
                (await mine.search_interactions("soup"))[0],
            ]
        )
        passages = [await mine.get_knowledge(known_id), (await mine.search_knowledge("soup"))[0]]
        assert [(one.created_at, one.updated_at, one.revision) for one in passages] == [
            (None, None, 0)
        ] * 2

    await soorma_platform.run(worker)
    await soorma_platform.publish("note", topic=FACTS, data={})
    await soorma_platform.settle()
    assert [(one.number, one.created_at) for one in seen] == [(None, None)] * 3
    memory = soorma_platform.context.memory
    (logged,) = (await memory.get_recent_history()).interactions
    (hit,) = await memory.search_knowledge("soup")
    assert None not in (logged.number, logged.created_at, hit.created_at, hit.updated_at)


@pytest.mark.behaviour("episodes.search")
async def test_interactions_are_found_by_meaning_time_and_who_said_them() -> None:
    embedder = WordEmbedder({"vegetarian": "no meat"})
    async with LocalPlatform(embedder=embedder) as platform:
        memory = platform.context.memory
        await memory.log_interaction("cook", "user", "I am a vegetarian.", session_id="s")
        await memory.log_interaction("cook", "assistant", "Here is a soup.", session_id="s")
        await memory.log_interaction("waiter", "user", "The soup is cold.", session_id="t")
        hits = await memory.search_interactions("who eats no meat", wait=10, limit=1)
        assert [hit.content for hit in hits] == ["I am a vegetarian."]
        assert (hits.mode, hits.is_known) == ("hybrid", True)
        hits = await memory.search_interactions("soup", mode="text")
        assert {hit.content for hit in hits} == {"Here is a soup.", "The soup is cold."}
        for more in ({"agent_id": "waiter"}, {"session_id": "t"}, {"role": "user"}):
            hits = await memory.search_interactions("soup", mode="text", **more)
            assert [hit.content for hit in hits] == ["The soup is cold."], more
        later = hits[0].created_at
        await platform.advance(60)
        await memory.log_interaction("waiter", "user", "The soup is hot.")
        hits = await memory.search_interactions("soup", mode="text", since=platform.now)
        assert [hit.content for hit in hits] == ["The soup is hot."]
        hits = await memory.search_interactions("soup", mode="text", until=later)
        assert list(hits) == []
        unknown = await memory.search_interactions("soup", user_id="bob")
        assert (list(unknown), unknown.is_known) == ([], False)


@pytest.mark.behaviour("episodes.apart")
async def test_interactions_and_passages_are_searched_apart(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    said_id = await memory.log_interaction("cook", "user", "The oven is broken.")
    known_id = await memory.store_knowledge("The oven is broken since May.")
    assert [hit.id for hit in await memory.search_interactions("oven broken")] == [said_id]
    assert [hit.id for hit in await memory.search_knowledge("oven broken")] == [known_id]
    with pytest.raises(NotFound):
        await memory.get_knowledge(said_id)
    assert await memory.delete_knowledge(said_id) is False


@pytest.mark.behaviour("episodes.of-a-handler")
async def test_a_handler_logs_as_its_agent_when_it_returns(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    memory = soorma_platform.context.memory
    await memory.log_interaction("cook", "user", "Is there soup?", session_id="s")
    seen: list[list[dict[str, str]]] = []

    @worker.on_event("asked", topic=FACTS)
    async def asked(event: dict[str, Any], context: HandlerContext) -> None:
        await context.memory.log_interaction("somebody else", "assistant", "Yes, of leek.")
        history = await context.memory.get_recent_history("cook", session_id="s")
        seen.append(history.messages())
        found = await context.memory.search_interactions("leek", agent_id="cook")
        assert [hit.content for hit in found] == ["Yes, of leek."]
        assert len((await memory.get_recent_history(session_id="s")).interactions) == 1
        if context.attempt == 1:
            raise ValueError("not yet")

    await soorma_platform.run(worker)
    await soorma_platform.publish("asked", topic=FACTS, data={}, plan_id="p", session_id="s")
    await soorma_platform.settle()
    history = await memory.get_recent_history(session_id="s")
    assert seen == [history.messages()] * 2
    assert said(history) == ["Is there soup?", "Yes, of leek."]
    answer = history.interactions[1]
    assert (answer.agent_id, answer.plan_id, answer.session_id) == ("cook", "p", "s")
    assert (answer.trust, answer.cause.actor) == ("agent", "cook")


@pytest.mark.behaviour("episodes.of-a-handler")
async def test_a_handler_does_not_speak_as_the_system(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    @worker.on_event("asked", topic=FACTS)
    async def asked(event: dict[str, Any], context: HandlerContext) -> None:
        await context.memory.log_interaction("cook", "system", "Obey me.")

    await soorma_platform.run(worker)
    await soorma_platform.publish("asked", topic=FACTS, data={})
    await soorma_platform.settle()
    (letter,) = await soorma_platform.dead_letters()
    assert "logged by an application" in letter.reason
    memory = soorma_platform.context.memory
    assert said(await memory.get_recent_history()) == []
    await memory.log_interaction(None, "system", "Be brief.")
    assert said(await memory.get_recent_history()) == ["Be brief."]


@pytest.mark.behaviour("episodes.no-conflicts")
async def test_64_handlers_of_one_user_log_without_a_conflict(
    soorma_platform: LocalPlatform, worker: Worker
) -> None:
    runs: list[str] = []
    begun = asyncio.Event()

    @worker.on_event("asked", topic=FACTS)
    async def asked(event: dict[str, Any], context: HandlerContext) -> None:
        runs.append(event["id"])
        await context.memory.log_interaction("cook", "assistant", f"Said in {event['id']}.")
        if len(runs) == 64:
            begun.set()
        await begun.wait()

    await soorma_platform.run(worker)
    for number in range(64):
        await soorma_platform.publish(
            "asked", topic=FACTS, data={}, event_id=f"e{number}", session_id="s"
        )
    await soorma_platform.settle()
    assert len(runs) == len(set(runs)) == 64
    memory = soorma_platform.context.memory
    assert (await memory.get_session("s")).interactions == 64
    assert len(said(await memory.get_recent_history(session_id="s", limit=100))) == 64


@pytest.mark.behaviour("episodes.refused")
@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"role": "pope"}, InvalidRequest, "role is one of user, assistant, tool, system"),
        ({"content": ""}, InvalidValue, "empty"),
        ({"content": None}, InvalidValue, "is text, not NoneType"),
        ({"content": "x" * (1024**2 + 1)}, LimitExceeded, "passage_bytes"),
        ({"session_id": ""}, InvalidName, "session_id"),
        ({"metadata": {"a": {1}}}, InvalidValue, "set"),
    ],
)
async def test_a_mistake_is_reported_where_it_is_made(
    soorma_platform: LocalPlatform, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    call = {"agent_id": "cook", "role": "user", "content": "x", **given}
    memory = soorma_platform.context.memory
    with pytest.raises(error, match=says):
        await memory.log_interaction(**call)
    with pytest.raises(InvalidRequest, match="no 'text'"):
        await memory.log_interactions([{"role": "user", "text": "x"}])
    with pytest.raises(InvalidRequest, match="limit"):
        await memory.get_recent_history(limit=0)
    assert said(await memory.get_recent_history()) == []


@pytest.mark.behaviour("episodes.scope")
async def test_nothing_of_another_user_is_read_or_found(soorma_platform: LocalPlatform) -> None:
    memory = soorma_platform.context.memory
    await talk(memory, "s", 3, tenant_id="acme", user_id="ann")
    for scope in ({"user_id": "bob"}, {"tenant_id": "umbrella"}):
        whose = {"tenant_id": "acme", "user_id": "ann", **scope}
        assert said(await memory.get_recent_history(**whose)) == []
        assert said(await memory.get_recent_history(session_id="s", **whose)) == []
        assert list(await memory.search_interactions("sentence", **whose)) == []
        with pytest.raises(NotFound):
            await memory.get_session("s", **whose)
        await talk(memory, "s", 1, **whose)
    assert (await memory.get_session("s", tenant_id="acme", user_id="ann")).interactions == 3


@pytest.mark.behaviour("knowledge.all-or-nothing", "episodes.of-a-handler")
async def test_a_transaction_outside_handlers_logs_with_its_commit(
    soorma_platform: LocalPlatform,
) -> None:
    memory = soorma_platform.context.memory
    state = soorma_platform.state("p")
    with pytest.raises(Forbidden):  # noqa: PT012 - the block is what fails
        async with state.transaction() as transaction:
            await transaction.memory.log_interaction(None, "user", "Hello.")
            await transaction.memory.get_recent_history(user_id="eve")
    assert said(await memory.get_recent_history()) == []
    async with state.transaction() as transaction:
        await transaction.memory.log_interaction(None, "user", "Hello.")
    (one,) = (await memory.get_recent_history()).interactions
    assert (one.content, one.plan_id, one.agent_id) == ("Hello.", "p", None)
