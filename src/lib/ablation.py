"""What each part of the process brings: ablation sweeps, read and compared part by part.

The files are those in which a sweep ends (`lib.sweep_table`). Those of the repository's own
ablation lie in `ablations/` beside this module, with a README that says how they were made.

The parts are variants of the sweep file: `a_base` is the base classifier, and each further one
adds or exchanges one part. `CHANGES` says which two variants show what a part does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib import artifacts, plots
from lib.errors import UserError
from lib.evaluation import interval_texts, t_interval
from lib.final_eval import ALL_AUDIT

SHIPPED = Path(__file__).parent / "ablations"
REGIMES = ("ablation_500", "ablation_2000", "ablation_all")  # gold texts
POINTS, MEANS = "comparison.csv", "seeds.csv"
GOLD_TEST = ("gold", "test")
CHANGES = {
    "a_longer": ("a_base", "training on, gold only"),
    "b_confidence": ("a_longer", "pseudo-labels by confidence"),
    "c_purity": ("b_confidence", "cluster purity as a second filter"),
    "d_supcon": ("c_purity", "SupCon"),
    "e_hard_weighted": ("d_supcon", "hard mining, memory and weights"),
    "f_supcon_gold_only": ("a_longer", "SupCon, gold only"),
    "g_student": ("a_base", "a new model that learns the base's probabilities"),
    "h_second_opinion": ("a_base", "soft labels from the base and a linear probe"),
    "i_foreign_gold": ("h_second_opinion", "the probe learns from English tweets, too"),
}
"""Variant: the variant that differs from it in one part, and the part."""


def folders(run_dir: Path | str, names: list[str]) -> list[Path]:
    """The folders of sweeps beside a run; of the repository's own ones if none is named.

    Raises:
        UserError: a sweep that is not there, or has no comparison over seeds.
    """
    if not names:
        return [SHIPPED / name for name in REGIMES if (SHIPPED / name).is_dir()]
    found = [Path(run_dir).parent / name for name in names]
    for folder in found:
        if missing := [name for name in (POINTS, MEANS) if not (folder / name).is_file()]:
            raise UserError(
                f"06_final_eval.ablations: {folder} has no {missing[0]}; name a sweep over several "
                "seeds that is complete (python -m lib sweep params/sweeps/ablation_500.yaml)"
            )
    return found


def fingerprint(run_dir: Path | str, names: list[str]) -> dict[str, str]:
    """Digests of the files that the chapter shows, by name."""
    return {
        f"{folder.name}/{name}": artifacts.file_digest(folder / name)
        for folder in folders(run_dir, names)
        for name in (POINTS, MEANS)
    }


def read(run_dir: Path | str, names: list[str], file: str = MEANS) -> pd.DataFrame:
    """Rows of `file` of all the sweeps, with the sweep's name in the column `sweep`.

    Args:
        names: see `folders`; file: MEANS (a row per variant and data set) or POINTS (and per seed).
    """
    frames = [
        pd.read_csv(folder / file, dtype={"variant": str}).assign(sweep=folder.name)
        for folder in folders(run_dir, names)
    ]
    frame = pd.concat(frames, ignore_index=True)
    if missing := [name for name in ("variant", "difference") if name not in frame]:
        raise UserError(
            f"06_final_eval.ablations: the sweeps {names} have no column {missing[0]!r}: a sweep "
            "file needs `variants` and `compare_with` for this comparison"
        )
    return frame


def table(means: pd.DataFrame) -> pd.DataFrame:
    """For people: one row per sweep, variant and data set (gold test, all audit, each audit set).

    Args:
        means: of `read`.
    Returns:
        texts with 95% intervals: macro_f1 over seeds, difference to the first variant over seeds
        and over texts.
    """
    shown = means[means["split"] != "validation"]
    result = shown[["sweep", "dataset", "split", "variant", "seeds"]].copy()
    result["macro-F1, over seeds"] = interval_texts(shown, "macro_f1")
    result["difference, over seeds"] = interval_texts(shown, "difference")
    result["difference, over texts"] = interval_texts(shown, "difference", "difference_texts")
    result["kept"] = ["–" if np.isnan(v) else f"{v:.0%}" for v in shown["kept_share"]]
    return pd.concat(
        rows.sort_values(["split", "dataset"], ascending=[False, True], kind="stable")
        for _, rows in result.groupby("sweep", sort=False)
    )


def parts(points: pd.DataFrame, dataset: str = "gold", split: str = "test") -> pd.DataFrame:
    """What each part does by itself: the difference of the two variants that differ in it.

    Args:
        points: POINTS of `read`.
    Returns:
        one row per sweep and part: sweep, part, variants, seeds, difference with difference_low
        and difference_high (95% t interval over the seeds), and verdict: `helps` or `harms` if the
        interval lies on one side of 0, else `not shown`.
    """
    chosen = points[(points["dataset"] == dataset) & (points["split"] == split)]
    rows: list[dict[str, Any]] = []
    for sweep, part in chosen.groupby("sweep", sort=False):
        by_seed = part.pivot(index="seed", columns="variant", values="macro_f1")
        for variant, (reference, what) in CHANGES.items():
            if {variant, reference} <= set(by_seed):
                values = (by_seed[variant] - by_seed[reference]).dropna().to_numpy()
                mean, low, high = t_interval(values)
                verdict = "helps" if low > 0 else "harms" if high < 0 else "not shown"
                row = {"sweep": sweep, "part": what, "variants": f"{variant} − {reference}"}
                row |= {"seeds": len(values), "difference": mean}
                rows.append(
                    row | {"difference_low": low, "difference_high": high, "verdict": verdict}
                )
    return pd.DataFrame(rows)


def readable(parts: pd.DataFrame) -> pd.DataFrame:
    """The rows of `parts` with the interval as text."""
    return parts[["sweep", "part", "variants", "seeds"]].assign(
        **{"macro-F1": interval_texts(parts, "difference"), "verdict": parts["verdict"]}
    )


def figure(means: pd.DataFrame) -> Figure:
    """Difference to the base by variant: a column per sweep, above gold test, below audit texts.

    Args:
        means: of `read`.
    """
    sweeps = list(dict.fromkeys(means["sweep"]))
    variants = list(dict.fromkeys(means.loc[means["difference"].notna(), "variant"]))
    sets = {"gold test": GOLD_TEST, "all audit texts": (ALL_AUDIT, "audit")}
    size = {"figsize": (4.2 * len(sweeps) + 1.5, 6.4), "squeeze": False, "sharey": True}
    drawn, axes = plt.subplots(len(sets), len(sweeps), **size)
    for line, (title, (dataset, split)) in zip(axes, sets.items(), strict=True):
        for axis, sweep in zip(line, sweeps, strict=True):
            rows = means[(means["sweep"] == sweep) & (means["dataset"] == dataset)]
            rows = rows[(rows["split"] == split) & rows["difference"].notna()]
            for row in rows.to_dict("records"):
                place = variants.index(row["variant"])  # sweeps may have different variants
                ends = [row["difference_low"], row["difference_high"]]
                axis.plot(ends, [place, place], color=plots.BASE_COLOR, linewidth=1.5)
                ends = [row["difference_texts_low"], row["difference_texts_high"]]
                axis.plot(ends, [place, place], color=plots.FINAL_COLOR, linewidth=4)
                axis.plot(row["difference"], place, "o", color="black")
            axis.axvline(0, color="black", linewidth=0.8)
            axis.set(title=f"{sweep}: {title}", xlabel="macro-F1, difference to the base")
            axis.set_yticks(range(len(variants)), variants)
    axes[0, 0].invert_yaxis()
    axes[0, 0].set_ylabel("variant")
    axes[1, 0].set_ylabel("variant")
    return plots.done(drawn)


def markdown(means: pd.DataFrame, dataset: str = "gold", split: str = "test") -> str:
    """A Markdown table, variants by sweeps: mean macro-F1 and its difference to the base, with the
    95% intervals over seeds and over texts.
    """
    rows = means[(means["dataset"] == dataset) & (means["split"] == split)]
    sweeps, variants = (list(dict.fromkeys(rows[name])) for name in ("sweep", "variant"))
    cells = {(row["sweep"], row["variant"]): _cell(row) for row in rows.to_dict("records")}
    lines = [["variant", *sweeps], ["---"] * (len(sweeps) + 1)]
    lines += [[v, *(cells.get((sweep, v), "–") for sweep in sweeps)] for v in variants]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: dict[str, Any]) -> str:
    if np.isnan(row["difference"]):
        return f"{row['macro_f1']:.3f}"
    texts = [
        f"[{row[f'{name}_low']:+.3f}, {row[f'{name}_high']:+.3f}]"
        for name in ("difference", "difference_texts")
    ]
    return f"{row['macro_f1']:.3f}: {row['difference']:+.3f} {' '.join(texts)}".replace("-", "−")
