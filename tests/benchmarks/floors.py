"""What needs no training of an encoder, on the texts of a sweep: TF-IDF and a linear probe.

    python -m lib sweep params/sweeps/ablation.yaml -p data_dir=FOLDER
    python tests/benchmarks/floors.py params/sweeps/ablation.yaml -p data_dir=FOLDER

Both learn from the gold train texts of every seed and label the texts on which the sweep measures.
The table is that of the sweep, the difference is to the variant `compare_with`. It goes into
floors.csv beside the sweep's own tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from lib import files
from lib.embeddings.probe import fit_layer
from lib.evaluation import comparison
from lib.models.encoder import hardware, new_classifier
from lib.models.inference import predict
from lib.parameters import BaseClassifierParams
from lib.runs import runner, sweep
from lib.training.baselines import tfidf

TEXT = ["split", "text_id", "nth"]


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="a sweep with compare_with, which has been run")
    parser.add_argument("-p", dest="overrides", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    options = parser.parse_args(arguments)
    loaded = sweep.load(options.file, options.overrides)
    folder = options.outputs / loaded.name
    collected = sweep.collect(loaded, folder)
    rows = collected[collected["variant"] == loaded.compare_with]
    found = [part for point in loaded.points for part in floors(point, loaded, folder, rows)]
    table = sweep.summary(pd.concat(found, ignore_index=True), loaded.axes)
    files.write_csv(folder / "floors.csv", table.round(6))
    print(table.to_string(index=False, float_format="%.3f"))
    return table


def floors(
    point: sweep.Point, loaded: sweep.Sweep, folder: Path, rows: pd.DataFrame
) -> Iterator[pd.DataFrame]:
    """The rows of a point as the floors would have predicted them."""
    rows = rows[rows["point"] == point.name]
    if rows.empty:
        return
    run_dir, params = runner.prepare(point.params, point.steps, folder)
    tables = run_dir / "01_gold_data" / "tables"
    gold = pd.read_parquet(tables / "gold.parquet")
    train = gold[gold["split"] == "train"]
    texts = comparison.some_texts(
        tables / "gold.parquet", tables / "corpus", sweep.SPLITS[loaded.measure]
    )
    texts["nth"] = texts.groupby(TEXT[:2]).cumcount()
    base = params.steps["02_base_classifier"]
    for name, predicted in {
        "TF-IDF": tfidf().fit(train["text"], train["label"]).predict(texts["text"]),
        "linear probe": probe(train, texts, base),
    }.items():
        said = texts[TEXT].assign(said=predicted)
        floor = rows.drop(columns="reference").rename(columns={"predicted": "reference"})
        floor = floor.merge(said, on=TEXT, validate="many_to_one")
        yield floor.rename(columns={"said": "predicted"}).assign(variant=name)


def probe(train: pd.DataFrame, texts: pd.DataFrame, base: BaseClassifierParams) -> np.ndarray:
    """Classes by a linear probe on the pretrained encoder, pooled as 02 does."""
    about = {"pooling": base.pooling, "max_tokens": base.max_tokens, "seed": base.seed}
    encoder = new_classifier(base.base_model, revision=base.base_revision, **about)
    on = hardware(base.precision, base.device)
    fit_layer(encoder, train, base.seed, on)
    return predict(encoder, encoder.tokenize(texts["text"].tolist()), **on)[0].argmax(1)


if __name__ == "__main__":
    main()
