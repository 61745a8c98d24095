"""Predictions of each point's last model: what the points of a sweep are compared by.

`predictions.parquet` in a point's folder holds text_id, source, split (validation, test or audit),
label, p0..p2 (float32 probabilities) of every text that was asked for. It names the model and the
texts that it was made from, so it is made once, and again when they change.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lib import LABELS, artifacts, encoder, final_eval, tables
from lib.inference import predict
from lib.sweep import MODEL_STEPS, Point

log = logging.getLogger(__name__)

FILE = "predictions.parquet"
AUDIT_TEXTS = 500  # of each source at most, its first ones: 06 measures all of them
SPLITS = {"validation": ("validation",), "test": ("validation", "test", "audit")}
"""The splits that a sweep reads, by its `measure`."""


def write_all(points: list[Point], folder: Path, measure: str) -> None:
    """Write predictions.parquet of every point that does not have it yet.

    Args:
        points: complete ones; folder: outputs/<sweep>/.
        measure: `validation`, or `test` for gold test and audit texts, too.
    """
    made: dict[str, Path] = {}
    for point in points:
        run_dir = folder / point.name
        wanted = key(point, run_dir)
        path = run_dir / FILE
        if not is_current(path, wanted, measure):
            if wanted in made:  # another point has the same model
                with artifacts.atomic(path) as temporary:
                    shutil.copyfile(made[wanted], temporary)
            else:
                log.info("measuring %s", point.name)
                write(path, predictions(point, run_dir, measure), wanted, measure)
        made[wanted] = path


def model_step(point: Point) -> str:
    """The step whose model is a point's last."""
    return [step for step in MODEL_STEPS if step <= point.last][-1]


def model_dir(point: Point, run_dir: Path) -> Path:
    """The folder of that step, of several rounds the best one's."""
    return artifacts.input_dir(run_dir, "06_final_eval", model_step(point))


def key(point: Point, run_dir: Path) -> str:
    """Digest of what a point's predictions depend on: model, texts, and how they are encoded."""
    folders = (run_dir / "01_gold_data", model_dir(point, run_dir))
    used = [artifacts.read_json(folder / artifacts.MANIFEST)["outputs"] for folder in folders]
    evaluation = point.params.steps["06_final_eval"]
    how = [evaluation.max_tokens, evaluation.precision, evaluation.device]
    return artifacts.digest([*used, how, AUDIT_TEXTS])


def is_current(path: Path, wanted: str, measure: str) -> bool:
    """Whether the file has this key and all splits of `measure`."""
    if not path.exists():
        return False
    metadata = pq.read_schema(path).metadata
    splits = metadata[b"splits"].decode().split(",")
    return metadata[b"key"].decode() == wanted and set(SPLITS[measure]) <= set(splits)


def predictions(point: Point, run_dir: Path, measure: str) -> pd.DataFrame:
    """A point's last model on validation, and for `test` on gold test and audit texts; see FILE."""
    evaluation = point.params.steps["06_final_eval"]
    gold = pd.read_parquet(run_dir / "01_gold_data" / "gold.parquet")
    frames = [gold[gold["split"] == split] for split in SPLITS[measure] if split != "audit"]
    if "audit" in SPLITS[measure]:
        corpus = tables.read_corpus(run_dir / "01_gold_data" / "corpus", audited=True)
        some = corpus.groupby("source").head(AUDIT_TEXTS)
        frames.append(final_eval.audit_texts(some).assign(split="audit"))
    columns = ["text_id", "text", "source", "split", "label"]
    texts = pd.concat([frame[columns] for frame in frames], ignore_index=True)
    model = encoder.load_classifier(model_dir(point, run_dir) / "model", evaluation.max_tokens)
    found, _ = predict(
        model,
        model.tokenize(texts["text"].tolist()),
        **encoder.hardware(evaluation),
        progress=point.name,
    )
    names = [f"p{i}" for i in range(len(LABELS))]
    return texts.drop(columns="text").join(pd.DataFrame(found.astype(np.float32), columns=names))


def write(path: Path, frame: pd.DataFrame, wanted: str, measure: str) -> None:
    """Write the predictions with their key and the splits that were read, atomically."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {b"key": wanted.encode(), b"splits": ",".join(SPLITS[measure]).encode()}
    with artifacts.atomic(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary)


def read(path: Path, measure: str) -> pd.DataFrame:
    """The predictions of the splits of `measure`, with the column `predicted`."""
    frame = pd.read_parquet(path)
    frame = frame[frame["split"].isin(SPLITS[measure])].reset_index(drop=True)
    return frame.assign(predicted=frame[[f"p{i}" for i in range(len(LABELS))]].to_numpy().argmax(1))
