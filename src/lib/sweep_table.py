"""The comparison that a sweep ends in: tables, intervals over texts and over seeds, one figure.

Two kinds of interval answer two questions, and both are 95%:

- *over texts*: would another sample of texts of this kind give the same? The percentile bootstrap
  of `lib.evaluation`, paired where two points are compared. For a mean over seeds, a resample
  draws texts once and counts them for all seeds, since the seeds are judged on the same texts.
- *over seeds*: would other seeds give the same? Student's t interval of the mean,
  `mean ± t(0.975, n - 1) · s / √n` over the n seeds' values, which are taken as independent and
  normally distributed. With three seeds t is 4.3: these intervals are honestly wide.

Validation figures choose; they are optimistic for what was chosen by them (checkpoints are, too).
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from lib import artifacts, sweep_plot, sweep_predictions
from lib.evaluation import (
    METRICS,
    K,
    compare,
    evaluate,
    interval_texts,
    resample,
    t_interval,
    text_keys,
)
from lib.final_eval import ALL_AUDIT
from lib.sweep import Point, Sweep, label

log = logging.getLogger(__name__)

MEAN_SAMPLES = 2000  # of the mean over seeds, at most: there may be thousands of kinds of texts
SEED, VARIANT, DATA = "seed", "variant", ["dataset", "split"]
Sets = dict[tuple[str, str], pd.DataFrame]
"""(dataset, split) -> text_id, label, predicted."""


def write(sweep: Sweep, folder: Path) -> pd.DataFrame:
    """Measure all complete points, write comparison.csv, seeds.csv and comparison.png, print.

    Args:
        folder: outputs/<sweep>/.
    Returns:
        comparison.csv, see `comparison`.
    """
    points = [p for p in sweep.points if is_complete(p, folder)]
    sweep_predictions.write_all(points, folder, sweep.measure)
    sets = {point.name: read_sets(point, folder, sweep.measure) for point in points}
    table = comparison(sweep, points, sets)
    if table.empty:
        log.error("no point of %s is complete: nothing to compare", sweep.name)
        return table
    table["kept_share"] = table["point"].map({p.name: kept_share(p, folder) for p in points})
    _write_csv(table, folder / "comparison.csv")
    shown = table
    if SEED in sweep.axes:
        shown = over_seeds(sweep, points, sets, table)
        _write_csv(shown, folder / "seeds.csv")
    with artifacts.atomic(folder / "comparison.png") as temporary:
        panels = shown[(shown["dataset"] == "gold") | (shown["split"] == "audit")]
        sweep_plot.comparison(panels, axes(sweep), sweep.name).savefig(temporary, dpi=110)
    print("\n" + readable(shown, axes(sweep)).to_string(index=False))
    print(f"\n{folder / 'comparison.csv'} and .png" + (", seeds.csv" if SEED in sweep.axes else ""))
    return table


def axes(sweep: Sweep) -> list[str]:
    """What tells the lines of a table apart: the variant and the grid, without the seed."""
    return [VARIANT, *(axis for axis in sweep.axes if axis != SEED)]


def is_complete(point: Point, folder: Path) -> bool:
    """Whether all steps of a point are complete."""
    found = (artifacts.read_manifest(folder / point.name, step) for step in point.steps)
    return all(manifest is not None for manifest in found)


def kept_share(point: Point, folder: Path) -> float:
    """Share of the corpus that a point's filter keeps; NaN if it does not run 04."""
    rows = artifacts.read_metrics(folder / point.name, "04_cluster_purity")
    return next((r["value"] for r in rows if r["name"] == "kept_share"), float("nan"))


def read_sets(point: Point, folder: Path, measure: str) -> Sets:
    """A point's predictions by data set: gold validation; for `test` gold test (sources alone if
    there are several) and audit texts, all and each source.
    """
    frame = sweep_predictions.read(folder / point.name / sweep_predictions.FILE, measure)
    sets: Sets = {}
    for split, part in frame.groupby("split", sort=False):
        whole = ALL_AUDIT if split == "audit" else "gold"
        sets[whole, str(split)] = part
        sources = dict(list(part.groupby("source")))
        if split == "audit" or (split == "test" and len(sources) > 1):
            sets |= {(str(name), str(split)): rows for name, rows in sources.items()}
    return sets


def comparison(sweep: Sweep, points: list[Point], sets: dict[str, Sets]) -> pd.DataFrame:
    """One row per point and data set.

    Returns:
        point, variant, the grid's parameters, dataset, split, texts, macro_f1 with macro_f1_low and
        macro_f1_high (over texts), accuracy; with `compare_with` also difference, difference_low,
        difference_high: paired macro-F1, point - reference, on the texts that both have (NaN for
        the reference itself).
    """
    rows = []
    for point in points:
        options = bootstrap(point)
        reference = sets.get(reference_of(sweep, point), {})
        for (dataset, split), frame in sets[point.name].items():
            about = {"dataset": dataset, "split": split}
            true, predicted = frame["label"].to_numpy(), frame["predicted"].to_numpy()
            found = evaluate(true, predicted, model="point", **about, **options)
            by_name = {row["name"]: row for row in found}
            row = {"point": point.name, VARIANT: point.variant}
            row |= {axis: label(value) for axis, value in point.values.items()}
            row |= {**about, "texts": len(frame), "macro_f1": by_name["macro_f1"]["value"]}
            row |= {f"macro_f1_{end}": by_name["macro_f1"][end] for end in ("low", "high")}
            row["accuracy"] = by_name["accuracy"]["value"]
            if sweep.compare_with is not None:
                names = ("difference", "difference_low", "difference_high")
                row |= dict.fromkeys(names, float("nan"))
                pair = paired(frame, reference.get((dataset, split)))
                if len(pair):
                    columns = (pair[name].to_numpy() for name in ("label", "reference", "point"))
                    (found, *_) = compare(*columns, **about, **options)
                    row |= dict(
                        zip(names, (found[k] for k in ("value", "low", "high")), strict=True)
                    )
            rows.append(row)
    return pd.DataFrame(rows)


def over_seeds(
    sweep: Sweep, points: list[Point], sets: dict[str, Sets], table: pd.DataFrame
) -> pd.DataFrame:
    """Means over the seeds, one row per variant, grid cell and data set.

    Args:
        table: of `comparison`.
    Returns:
        variant, grid without seed, dataset, split, seeds (number), texts (mean), macro_f1 and
        accuracy (means) with _low, _high over seeds (NaN with one seed); with `compare_with`
        difference with difference_low, difference_high over seeds and difference_texts_low,
        difference_texts_high over texts.
    """
    keys = [*axes(sweep), *DATA]
    points_by_name = {point.name: point for point in points}
    rows = []
    for cell, part in table.groupby(keys, sort=False, dropna=False):
        row = dict(zip(keys, cell, strict=True))
        row |= {"seeds": len(part), "texts": round(part["texts"].mean())}
        for name in ("macro_f1", "accuracy"):
            row |= with_ends(name, t_interval(part[name].to_numpy()))
        if "difference" in part:
            row |= with_ends("difference", t_interval(part["difference"].dropna().to_numpy()))
            data = (row["dataset"], row["split"])
            members = [points_by_name[name] for name in part["point"]]
            pairs = [
                paired(sets[p.name][data], sets.get(reference_of(sweep, p), {}).get(data))
                for p in members
            ]
            found = mean_difference_interval([p for p in pairs if len(p)], **bootstrap(members[0]))
            row |= dict(zip(("difference_texts_low", "difference_texts_high"), found, strict=True))
        row["kept_share"] = part["kept_share"].mean()
        rows.append(row)
    return pd.DataFrame(rows)


def bootstrap(point: Point) -> dict[str, int]:
    """`samples` and `seed` of the bootstrap, as the point's 06 would take them."""
    evaluation = point.params.steps["06_final_eval"]
    return {"samples": evaluation.bootstrap_samples, "seed": evaluation.seed}


def reference_of(sweep: Sweep, point: Point) -> str | None:
    """Name of the point that this one is compared with: same grid cell, variant compare_with."""
    if sweep.compare_with in (None, point.variant):
        return None
    return next(
        p.name for p in sweep.points if p.variant == sweep.compare_with and p.values == point.values
    )


def paired(frame: pd.DataFrame, reference: pd.DataFrame | None) -> pd.DataFrame:
    """text_id, label, point and reference (predicted classes) of the texts that both have."""
    if reference is None:
        return pd.DataFrame(columns=["text_id", "label", "point", "reference"])
    one = frame[["text_id", "label", "predicted"]].set_axis(text_keys(frame))
    other = reference["predicted"].set_axis(text_keys(reference)).rename("reference")
    both = one.rename(columns={"predicted": "point"}).join(other, how="inner")
    return both.reset_index(drop=True)


def mean_difference_interval(
    pairs: list[pd.DataFrame], *, samples: int, seed: int
) -> tuple[float, float]:
    """95% interval over texts of the mean over seeds of the macro-F1 difference.

    Texts that all seeds treat alike are interchangeable, so a resample is a multinomial draw over
    the kinds of texts that there are, as in `lib.evaluation`. A text that a seed does not have
    (another split) counts only where it is.

    Args:
        pairs: one frame of `paired` per seed.
    Returns:
        low and high; NaN without pairs.
    """
    if not pairs:
        return float("nan"), float("nan")
    cells = [
        ((pair["label"] * K + pair["reference"]) * K + pair["point"]).set_axis(text_keys(pair))
        for pair in pairs
    ]
    of_text = pd.concat(cells, axis=1).fillna(-1).to_numpy(dtype=np.int64)  # [texts, seeds]
    kinds, counts = np.unique(of_text, axis=0, return_counts=True)
    samples = min(samples, MEAN_SAMPLES)
    drawn = resample(counts, samples, seed).astype(float)  # [samples, kinds]
    differences = np.zeros(samples)
    for of_seed in kinds.T:
        one_hot = (of_seed[:, None] == np.arange(K**3)).astype(float)
        cubes = (drawn @ one_hot).reshape(samples, K, K, K)  # true, reference, point
        macro_f1 = METRICS["macro_f1"]
        differences += (macro_f1(cubes.sum(-2)) - macro_f1(cubes.sum(-1))) / len(pairs)
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def with_ends(name: str, interval: tuple[float, float, float]) -> dict[str, float]:
    """A value with its interval as three columns."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that sum up: gold validation and test, all audit texts."""
    return table[table["dataset"].isin(["gold", ALL_AUDIT])]


def readable(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The headline rows as text, intervals in brackets (over seeds where there are seeds)."""
    table = headline(table)
    shown = table[[*columns, *DATA]].copy()
    shown = shown.drop(columns=[c for c in columns if c == VARIANT and not (table[c] != "").any()])
    for name in ("seeds", "texts"):
        if name in table:
            shown[name] = table[name]
    for name in ("macro_f1", "difference"):
        if name in table:
            shown[name] = interval_texts(table, name)
    if "difference_texts_low" in table:
        shown["difference, over texts"] = interval_texts(table, "difference", "difference_texts")
    if table["kept_share"].notna().any():
        shown["kept"] = ["–" if np.isnan(v) else f"{v:.3f}" for v in table["kept_share"]]
    return shown


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with artifacts.atomic(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f")
