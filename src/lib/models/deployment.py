"""`python -m lib export`: the model that people take, small, fast and in stock formats.

Out of a run's final model come, in one folder: the stock checkpoint with a trimmed vocabulary, ONNX
in float32 and int8 where transformers.js looks for them, and a model card. What was lost on the way
is measured on the gold test texts, not hoped for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import metrics
from lib.artefacts import read_manifest
from lib.data.tables import batches
from lib.errors import UserError
from lib.files import atomic_folder, read_record, write_json
from lib.models import card, onnx_export, vocabulary
from lib.models.encoder import Encoder, hardware, load_classifier, save_classifier
from lib.models.inference import predict
from lib.models.sentiment import ABOUT, FINAL, ONNX, OWN, STEP, SentimentModel, origin

INT8, FLOAT32 = ONNX
MOST_TEXTS = 5000  # of a split that measure: the interval is narrow, and it takes minutes
OUTLIER_TEXTS = 64
RUSSIAN = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
SAMPLES = 10_000  # of the bootstrap
STEPS = ("01_gold_data", "02_base_classifier", STEP)  # what an export reads of a run


def export(
    run_dir: Path,
    out: Path | None = None,
    *,
    keep_vocabulary: bool = False,
    max_loss: float = 0.01,
    force: bool = False,
) -> Path:
    """Write the deployable model of a run.

    Args:
        out: new directory; None: `model` in the run.
        keep_vocabulary: do not cut the vocabulary to the tokens of Russian letters and of the run's
            texts.
        max_loss: macro-F1 that int8 may cost; more layers stay in float until it holds on gold
            validation. If it never does, or does not hold on gold test then, no int8 file is
            written.
        force: replace `out`. Else it stays if it was made of the same model, and only the run's
            own `model` is replaced.
    Returns:
        The directory.
    Raises:
        UserError: the run has no final model, or `out` holds something else.
    """
    own = out is None  # made of the run, so it may be replaced
    out = out or run_dir / OWN
    manifests = {step: read_manifest(run_dir, step) or {} for step in STEPS}
    if absent := [step for step, manifest in manifests.items() if not manifest]:
        raise UserError(f"{run_dir}: {absent[0]} is not complete; run its steps up to 05 first")
    source = run_dir / FINAL
    letters = None if keep_vocabulary else RUSSIAN
    options = {"keep_vocabulary": keep_vocabulary, "letters": letters, "max_loss": max_loss}
    made_of = {"origin": origin(manifests[STEP]), **options}
    if out.exists() and not force:
        there = read_record(out / ABOUT, dict) or {}
        if there.items() >= made_of.items():
            logging.info("%s is there already, made of the same model", out)
            return out
        if not own or not there:
            raise UserError(
                f"--out: {out} is there already; name another directory, or use --force"
            )

    encoder = load_classifier(source)
    tables = run_dir / "01_gold_data" / "tables"
    gold, seed = tables / "gold.parquet", manifests["01_gold_data"]["parameters"]["seed"]
    texts, validation = (some_texts(gold, split, seed) for split in ("test", "validation"))
    rows = [measured("PyTorch float32", size(source), lambda given: torch(encoder, given), texts)]
    with atomic_folder(out) as building:
        if letters:
            # not those of the test texts: what the cut costs is measured with them
            seen = texts_before_test(gold, tables / "corpus")
            encoder.tokenizer, summary = vocabulary.cut(
                encoder.model, encoder.tokenizer, seen, letters=letters
            )
            logging.info(summary)
        # so that the tokenizer.json cuts texts by itself, for those who have no transformers
        encoder.tokenizer.backend_tokenizer.enable_truncation(encoder.max_tokens)
        save_classifier(encoder, building)
        rows += write_onnx(encoder, building, texts, validation, rows[0], max_loss)
        about: dict[str, Any] = {**made_of, "max_tokens": encoder.max_tokens}
        about |= {"parameters": encoder.model.num_parameters(), "measured": shown(rows)}
        write_json(building / ABOUT, about)
        parameters = [manifest["parameters"] for manifest in manifests.values()]
        card.write(building, about, run_dir, *parameters)
    for row in about["measured"]:
        logging.info(line(row))
    return out


def write_onnx(
    encoder: Encoder,
    folder: Path,
    texts: pd.DataFrame,
    validation: pd.DataFrame,
    original: dict[str, Any],
    max_loss: float,
) -> list[dict[str, Any]]:
    """Write both ONNX files into an exported folder; int8 only if it loses at most `max_loss`.

    Args:
        texts: gold test texts, which measure; validation: by these layers are chosen.
        original: `measured` on `texts`, before the vocabulary was cut.
    Returns:
        What was measured of each on `texts`.
    Raises:
        UserError: the float32 file does not give what the model gives.
    """
    onnx_export.export(encoder.model, folder / FLOAT32)
    found = [onnx_row("ONNX float32", folder, FLOAT32, texts, original)]
    if found[0]["equal_labels"] < 0.99:
        raise UserError(
            f"the exported ONNX file gives other labels than the model "
            f"({found[0]['equal_labels']:.1%} equal): this architecture cannot be exported yet"
        )
    before = measured("float32", 0, lambda given: torch(encoder, given), validation)
    worst = onnx_export.outliers(encoder, validation["text"].tolist()[:OUTLIER_TEXTS])
    base = encoder.model.base_model_prefix
    for share in onnx_export.LEVELS:
        count = round(share * encoder.model.config.num_hidden_layers)
        kept = onnx_export.quantise(folder / FLOAT32, folder / INT8, base, worst, count)
        row = onnx_row("ONNX int8", folder, INT8, validation, before)
        logging.info("%d layers in float, gold validation: %s", len(kept), line(row))
        if row["difference"]["value"] >= -max_loss:
            split = "test"
            row = onnx_row("ONNX int8", folder, INT8, texts, original) | {"in_float": kept}
            if row["difference"]["value"] >= -max_loss:
                return [*found, row]
            break  # to try others would be to choose by test
    else:
        split = "validation"
    (folder / INT8).unlink()
    logging.warning(
        "no int8 file: it would lose more than %s macro-F1 on gold %s (--max-loss)", max_loss, split
    )
    return found


def some_texts(gold: Path, split: str, seed: int) -> pd.DataFrame:
    """At most MOST_TEXTS gold texts of a split."""
    frame = pd.read_parquet(gold, filters=[("split", "==", split)])
    if len(frame) > MOST_TEXTS:
        frame = frame.sample(MOST_TEXTS, random_state=seed)
    return frame.reset_index(drop=True)


def texts_before_test(gold: Path, corpus: Path) -> Iterator[str]:
    """Gold texts of train and validation, then the corpus."""
    yield from pd.read_parquet(gold, filters=[("split", "!=", "test")])["text"]
    for batch in batches(corpus, ["text"]):
        yield from batch["text"].to_pylist()


def onnx_row(
    name: str, folder: Path, file: str, texts: pd.DataFrame, original: dict[str, Any]
) -> dict[str, Any]:
    """`measured` of an ONNX file, and how it differs from the original."""
    model = SentimentModel(folder, file)
    row = measured(name, size(folder / file), model.predict_proba, texts)
    one, two = original["predicted"], row["predicted"]
    about = about_texts(texts)
    paired = metrics.compare(texts["label"].to_numpy(), one, two, **about)
    return row | {"equal_labels": float((one == two).mean()), "difference": interval(paired)}


def measured(
    name: str, megabytes: float, probabilities: Callable[[list[str]], np.ndarray], texts: Any
) -> dict[str, Any]:
    """How good, large and fast a model is: macro-F1 with interval, megabytes, texts per second."""
    given = texts["text"].tolist()
    probabilities(given[:50])  # what is set up at the first call does not count
    start = time.perf_counter()
    predicted = probabilities(given).argmax(1)
    speed = len(given) / (time.perf_counter() - start)
    about = about_texts(texts)
    rows = metrics.evaluate(texts["label"].to_numpy(), predicted, model=name, **about)
    return {
        "model": name,
        "texts": len(given),
        "macro_f1": interval(rows),
        "megabytes": round(megabytes, 1),
        "texts_per_second": round(speed),
        "predicted": predicted,
    }


def torch(encoder: Encoder, texts: list[str]) -> np.ndarray:
    """Probabilities by PyTorch in float32."""
    return predict(encoder, encoder.tokenize(texts), **hardware("float32", "cpu"))[0]


def about_texts(texts: pd.DataFrame) -> dict[str, Any]:
    """What `lib.metrics` is told about gold texts of one split."""
    return {"dataset": "gold", "split": texts["split"].iloc[0], "samples": SAMPLES, "seed": 0}


def interval(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Value, low and high of the macro-F1 among rows of metrics.json."""
    (row,) = (row for row in rows if row["name"] == "macro_f1")
    return {name: row[name] for name in ("value", "low", "high")}


def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as they are written: without the predictions."""
    return [{name: value for name, value in row.items() if name != "predicted"} for row in rows]


def line(row: dict[str, Any]) -> str:
    """What was measured of a model, as a line."""
    score = metrics.with_interval(*row["macro_f1"].values())
    text = f"{row['model']}: macro-F1 {score}, {row['megabytes']} MB"
    text += f", {row['texts_per_second']} texts/s"
    if "difference" in row:
        text += f", difference {metrics.with_interval(*row['difference'].values())}"
        text += f", {row['equal_labels']:.1%} of the labels equal"
    return text


def size(path: Path) -> float:
    """Megabytes of a file, or of the weights in a folder."""
    files = [path] if path.is_file() else path.glob("*.safetensors")
    return sum(file.stat().st_size for file in files) / 1e6
