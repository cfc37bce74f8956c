"""Secrets on their way into memories: redacted or refused at every door, and in no file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from depth import at_depth, dice
from drawn_secrets import SECRETS, WITHIN

from soorma import HandlerContext, RetryPolicy, Worker
from soorma.errors import IdempotencyMismatch, InvalidRequest, SecretFound
from soorma.testing import LocalPlatform, WordEmbedder

FACTS = "business-facts"
KEY = "AKIA" + "IOSFODNN7EXAMPLE"
CLEAN = "[redacted: AWS access key]"


def folder_of(platform: LocalPlatform) -> Path:
    return Path(platform._platform.settings.database).parent


def files_with(platform: LocalPlatform, text: str) -> list[str]:
    """Returns the files of the record that hold a text, in whatever encoding it was stored."""
    found = []
    for file in folder_of(platform).iterdir():
        data = file.read_bytes()
        if any(text.encode(encoding) in data for encoding in ("utf-8", "utf-16-le", "utf-16-be")):
            found.append(file.name)
    return found


@pytest.fixture
async def refusing() -> AsyncGenerator[LocalPlatform, None]:
    async with LocalPlatform(memory_secrets="refuse") as platform:
        yield platform


def _secrets(rolled: Random) -> list[tuple[str, str]]:
    """Returns secrets of one line, each after the text that says what it is."""
    found = [(draw(rolled), "") for kind, draw in SECRETS if kind != "private key"]
    found += [(draw(rolled), before(rolled)) for _, before, draw in WITHIN]
    found.append((f"{rolled.randbytes(8).hex()}@db/x", "postgres://app:"))
    return [(before + secret, secret.removesuffix("@db/x")) for secret, before in found]


async def _store(memory: Any, number: int, text: str, filler: str) -> None:
    """Stores a text in every field of every kind of memory."""
    await memory.store_knowledge(
        f"{number} {text} {filler}", aliases=[text], tags=[text], source=text,
        metadata={"a": text, "deep": [{"b": text}]},
    )  # fmt: skip
    passage = await memory.store_knowledge(f"{number} of another")
    await memory.update_knowledge(passage, aliases=[text], metadata={"x": text}, source=text)
    await memory.log_interaction(
        "a", "user", f"{text} {number}", session_id=f"s{number}", metadata={"m": text}
    )
    await memory.name_session(f"s{number}", text)
    await memory.store_procedure(
        f"p{number}", f"{text} {number}", description=f"for {text}", tags=[text], source=text,
        conditions={"c": [text, "other"]}, metadata={"m": text},
        files={
            "a.txt": text.encode(), "b.txt": text.encode("utf-16"), "c": b"\xff" + text.encode(),
        },
    )  # fmt: skip


@pytest.mark.behaviour("secrets.redacted")
async def test_a_secret_is_in_no_file_through_whatever_door_it_came() -> None:
    worker = Worker("w")
    rolled = dice("doors")
    secrets = [one for _ in range(at_depth(1, 4)) for one in _secrets(rolled)]
    async with LocalPlatform(embedder=WordEmbedder()) as platform:

        @worker.on_event("asked", topic=FACTS)
        async def asked(event: dict[str, Any], context: HandlerContext) -> None:
            for number, (one, _) in enumerate(secrets):
                await context.memory.store_knowledge(
                    f"of a handler {number}: {one}", aliases=[one], metadata={"a": one}
                )
                await context.immediate.memory.log_interaction("w", "assistant", f"{number} {one}")

        for number, (one, _) in enumerate(secrets):
            await _store(platform.context.memory, number, one, "filler " * (number % 7 * 300))
        await platform.run(worker)
        await platform.publish("asked", topic=FACTS, data={})
        await platform.settle()
        await platform.context.memory.search_knowledge("filler", wait=60)
        assert files_with(platform, "of a handler") != []
        for one, secret in secrets:
            assert files_with(platform, secret) == [], one
        lines = {msgspec.json.encode(one) async for one in platform.context.memory.list_knowledge()}
        assert sum(b"[redacted: " in line for line in lines) >= 2 * len(secrets)


@pytest.mark.behaviour("secrets.redacted")
async def test_the_rest_of_the_text_stays_and_is_found() -> None:
    async with LocalPlatform() as platform:
        memory = platform.context.memory
        passage_id = await memory.store_knowledge(
            f"The deploy key {KEY} belongs to Walter.",
            metadata={"big": 12345678901234567, "key": KEY, "card": 4111111111111111},
        )
        (hit,) = await memory.search_knowledge("whose is the deploy key")
        assert hit.id == passage_id
        assert hit.content == f"The deploy key {CLEAN} belongs to Walter."
        assert hit.metadata == {
            "big": 12345678901234567, "key": CLEAN, "card": "[redacted: card number]",
        }  # fmt: skip
        again = await memory.store_knowledge(f"The deploy key {KEY[:-1]}A belongs to Walter.")
        assert again == passage_id, (
            "texts that differ in a secret alone are equal as they are stored"
        )
        counts = platform._platform.metrics.memories.secrets.values()
        assert counts == {("AWS access key", "redacted"): 3, ("card number", "redacted"): 1}


@pytest.mark.behaviour("secrets.redacted")
async def test_a_handler_sees_what_it_wrote_until_the_commit() -> None:
    worker = Worker("w")
    seen: list[str] = []

    @worker.on_event("asked", topic=FACTS)
    async def asked(event: dict[str, Any], context: HandlerContext) -> None:
        passage_id = await context.memory.store_knowledge(f"The key {KEY} opens it.")
        seen.append((await context.memory.get_knowledge(passage_id)).content)
        seen.append(passage_id)

    async with LocalPlatform() as platform:
        await platform.run(worker)
        await platform.publish("asked", topic=FACTS, data={})
        await platform.settle()
        assert seen[0] == f"The key {KEY} opens it."
        stored = await platform.context.memory.get_knowledge(seen[1])
        assert stored.content == f"The key {CLEAN} opens it."


@pytest.mark.behaviour("secrets.redacted")
async def test_a_repeated_request_is_one_and_nothing_of_the_secret_is_hashed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("soorma.transport.calls.uuid4", lambda: "the same key")
    async with LocalPlatform() as platform:
        caller = platform.context.memory._caller
        scope = platform.context.memory.scope()

        async def send(text: str) -> bytes:
            body = msgspec.json.encode({"passages": [{"content": text}]})
            return await caller.call(
                "memory", "POST", "/v1/memory/semantic", scope=scope, body=body
            )

        first = await send(f"The key {KEY}.")
        assert await send(f"The key {KEY}.") == first
        assert await send(f"The key {KEY[:-1]}A.") == first, "only what is stored tells them apart"
        with pytest.raises(IdempotencyMismatch):
            await send("The key is elsewhere.")


@pytest.mark.behaviour("secrets.refused")
async def test_a_refusal_says_where_and_what_but_not_the_secret(refusing: LocalPlatform) -> None:
    memory = refusing.context.memory
    cases: list[tuple[Any, str, int]] = [
        (memory.store_knowledge(f"It is {KEY}."), "content", 6),
        (memory.store_knowledge("It is.", aliases=["a", KEY]), "aliases", 0),
        (memory.store_knowledge("It is.", metadata={"k": f"a {KEY}"}), "metadata/k", 2),
        (memory.log_interaction("a", "user", f"a {KEY}"), "content", 2),
        (memory.store_procedure("p", "It is.", description=f"{KEY} it is"), "description", 0),
        (memory.store_procedure("p", "It is.", files={"f": KEY.encode()}), "the file f", 0),
    ]
    for call, field, position in cases:
        with pytest.raises(SecretFound) as caught:
            await call
        error = caught.value
        assert (error.path, error.kind, error.position) == (field, "AWS access key", position)
        assert KEY not in str(error)
        assert KEY not in repr(error.details)
    with pytest.raises(SecretFound) as caught:
        await memory.store_knowledge_batch(["One.", "Two.", f"Three {KEY}."])
    assert caught.value.operation == 2
    assert [one async for one in memory.list_knowledge()] == []
    assert files_with(refusing, KEY) == []
    assert refusing._platform.metrics.memories.secrets.values() == {
        ("AWS access key", "refused"): 7
    }


@pytest.mark.behaviour("secrets.refused")
async def test_a_name_that_tells_things_apart_is_not_redacted() -> None:
    async with LocalPlatform() as platform:
        memory = platform.context.memory
        for call in (
            memory.store_knowledge("It is.", external_id=KEY),
            memory.store_knowledge("It is.", subject=KEY, attribute="a"),
            memory.store_knowledge("It is.", metadata={KEY: 1}),
            memory.log_interaction("a", "user", "It is.", session_id=KEY),
            memory.store_procedure(KEY, "It is."),
            memory.store_procedure("p", "It is.", files={f"{KEY}/a": b""}),
        ):
            with pytest.raises(SecretFound, match="is not redacted"):
                await call
        assert files_with(platform, KEY) == []
        assert not await memory.delete_knowledge(KEY), "what is there already can be forgotten"


@pytest.mark.behaviour("secrets.refused")
async def test_a_handler_that_stores_a_secret_fails(refusing: LocalPlatform) -> None:
    worker = Worker("w", retry=RetryPolicy(max_attempts=1))

    @worker.on_event("asked", topic=FACTS)
    async def asked(event: dict[str, Any], context: HandlerContext) -> None:
        await context.memory.store_knowledge("Nothing of this stays.")
        await context.memory.store_knowledge(f"The key {KEY} opens it.")

    await refusing.run(worker)
    await refusing.publish("asked", topic=FACTS, data={})
    await refusing.settle()
    (letter,) = await refusing.dead_letters()
    assert "AWS access key" in letter.reason
    assert KEY not in letter.reason
    assert [one async for one in refusing.context.memory.list_knowledge()] == []
    assert files_with(refusing, KEY) == []


@pytest.mark.behaviour("secrets.kept")
async def test_with_keep_a_text_is_stored_as_it_is() -> None:
    async with LocalPlatform(memory_secrets="keep") as platform:
        memory = platform.context.memory
        passage_id = await memory.store_knowledge(f"It is {KEY}.", external_id=KEY)
        assert (await memory.get_knowledge(passage_id)).content == f"It is {KEY}."
        assert files_with(platform, KEY) != [], "or the tests above look in the wrong place"


@pytest.mark.behaviour("secrets.own-patterns")
async def test_the_patterns_of_a_file_are_read_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "patterns.txt"
    file.write_text("badge number: BADGE-[0-9]{6}\n")
    async with LocalPlatform(memory_secret_patterns=str(file)) as platform:
        memory = platform.context.memory
        passage_id = await memory.store_knowledge("It is BADGE-123456.")
        stored = await memory.get_knowledge(passage_id)
        assert stored.content == "It is [redacted: badge number]."
    file.write_text("badge number: (a+)+\n")
    with pytest.raises(InvalidRequest, match="line 1 of"):
        await LocalPlatform(memory_secret_patterns=str(file)).__aenter__()
    with pytest.raises(InvalidRequest, match="SOORMA_MEMORY_SECRET_PATTERNS names"):
        await LocalPlatform(memory_secret_patterns=str(tmp_path / "none")).__aenter__()
