"""Labels of texts, in four lines of Python:

    from lib.models import SentimentModel
    model = SentimentModel("outputs/demo")
    model.predict(["Отличный магазин!"])        # ["positive"]
    model.predict_proba(["Отличный магазин!"])  # float32 [1, 3]: negative, neutral, positive

Where an exported model is found it runs by ONNX Runtime, and neither torch nor pandas nor scipy is
imported: the first prediction of a new process takes a second or two, not ten.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from lib import LABELS
from lib.artefacts import Manifest, output_digest, read_manifest
from lib.data.cleaning import clean
from lib.errors import UserError
from lib.files import digest, file_digest, read_record
from lib.models.batching import (
    CPU_TOKENS_PER_BATCH,
    MAX_PADDING,
    batched,
    pad,
    token_budget_batches,
)

ONNX = ("onnx/model_quantized.onnx", "onnx/model.onnx")
"""Where an exported folder has its models (as transformers.js expects them), the best first."""
STEP = "05_metric_learning"
OWN, FINAL = "model", f"{STEP}/model"  # in a run: the exported model, and what it is made of
ABOUT = "export.json"
PLACES = ("", OWN, FINAL)  # of a model in a run, the best first
PIECE = 10_000  # texts that are tokenised at once
LONG = 1024
"""Tokens; longer texts run one after the other: a value of their attention has 50 MB and more."""


class SentimentModel:
    """A trained classifier with the habits of scikit-learn.

    Args:
        path: a run, the folder of a trained model, or what `python -m lib export` wrote.
        file: which ONNX file of an exported folder; None: the best that is there.
    Attributes:
        classes_: negative, neutral, positive.
    Raises:
        UserError: no model is there.
    """

    classes_ = LABELS

    def __init__(self, path: Path | str, file: str | None = None) -> None:
        folder = find_model(Path(path))
        names = [file] if file else [name for name in ONNX if (folder / name).is_file()]
        self.folder = folder
        self.file = folder / (names[0] if names else "model.safetensors")
        self._predict = _Onnx(folder, names[0]) if names else _Torch(folder)

    @property
    def fingerprint(self) -> str:
        """What tells this model from another one."""
        return digest([file_digest(self.file), file_digest(self.folder / "tokenizer.json")])

    def predict_proba(self, texts: Iterable[str]) -> np.ndarray:
        """Probability of each class, float32 [n, 3], of texts cleaned as those of training were."""
        given = [texts] if isinstance(texts, str) else texts
        found = [self._predict(piece) for piece in batched(map(clean, given), PIECE)]
        return np.concatenate([np.empty((0, len(LABELS)), np.float32), *found])

    def predict(self, texts: Iterable[str]) -> list[str]:
        """The most likely class of each text."""
        return [LABELS[i] for i in self.predict_proba(texts).argmax(1)]


def find_model(path: Path) -> Path:
    """The folder of the model that `path` means.

    Raises:
        UserError: no model is there.
    """
    for place in PLACES:
        folder = path / place
        if (folder / "config.json").is_file() and (folder / "tokenizer.json").is_file():
            about = exported(path) if place == OWN else None
            if about and not about["current"] and read_manifest(path, STEP):
                message = "%s is older than the run's final model; `python -m lib export %s`"
                logging.warning(message, folder, path)
            return folder
    raise UserError(
        f"{path}: no model is there; name a run whose step 05 is done (outputs/RUN), the folder of "
        "a trained model, or one written by `python -m lib export`"
    )


def exported(run_dir: Path) -> dict[str, Any] | None:
    """export.json of a run's own exported model, and whether it is of the final model (`current`).

    None if nothing is exported, or that file is damaged.
    """
    about, final = read_record(run_dir / OWN / ABOUT, dict), read_manifest(run_dir, STEP)
    if not about:
        return None
    return about | {"current": final is not None and about.get("origin") == origin(final)}


def origin(final: Manifest) -> str:
    """The digest of the final model, by the manifest of its step."""
    return output_digest(final, "model")


class _Torch:
    """By torch, on a GPU where there is one."""

    def __init__(self, folder: Path) -> None:
        from lib.models.encoder import hardware, load_classifier
        from lib.models.inference import Predictor

        self.encoder = load_classifier(folder)
        self.predictor = Predictor(self.encoder, **hardware("auto", "auto"))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        return self.predictor(self.encoder.tokenize(list(texts)))[0]


class _Onnx:
    """By ONNX Runtime on the CPU, each core with batches of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        try:
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self.session = onnxruntime.InferenceSession(
                str(folder / name), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # both libraries raise kinds of their own
            raise UserError(
                f"{folder / name}: not a readable model ({str(error)[:200]}); export it again"
            ) from error
        self.tokenizer.no_padding()
        self.workers = ThreadPoolExecutor(joblib.cpu_count())

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]
        lengths = np.array([len(row) for row in ids], dtype=np.int64)
        found = np.empty((len(ids), len(LABELS)), dtype=np.float32)
        batches = list(token_budget_batches(lengths, CPU_TOKENS_PER_BATCH, MAX_PADDING))
        for batch, logits in zip(batches, self._run_all(ids, batches), strict=True):
            found[batch] = np.exp(logits - logits.max(1, keepdims=True))
        return found / found.sum(1, keepdims=True)

    def _run_all(self, ids: list[list[int]], batches: list[np.ndarray]) -> Iterator[Any]:
        rows = ([ids[i] for i in batch] for batch in batches)
        # the longest come first, and attention needs memory by the square of their length
        long = list(islice(rows, sum(len(ids[batch[0]]) > LONG for batch in batches)))
        others = self.workers.map(self._run, rows)  # at work from now on
        yield from map(self._run, long)
        yield from others

    def _run(self, rows: list[list[int]]) -> Any:
        return self.session.run(["logits"], pad(rows, 0))[0]  # the mask hides what pads
