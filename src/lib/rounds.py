"""More rounds: the final model labels the corpus again, and steps 03 to 05 run again on that.

A better model should label better, and better labels train a better model; or it repeats its own
mistakes with more confidence. So after each round validation decides: a round that does not improve
macro-F1 on gold validation is the last one, and 06 compares the base of 02 with the best round's
model. Round 1 has to beat the base, too, before its model is asked to label. A round that cannot be
completed, because the filter leaves no text of some class, ends the rounds as well.

A further round is the run folder outputs/<run>/round_<r>/, in the normal layout: its 01 is the
run's, its 02 is the 05 of the round before (both shared, see `lib.sharing`), and 03 to 05 are
executed there by the same notebooks with the same parameters. So notebooks, fingerprints, resuming
and the report know nothing of rounds. With `start_from: base_classifier` training goes on from the
model of the round before, with `base_model` it starts anew from the pretrained encoder.

Reference: Xie et al. 2020, "Self-training with Noisy Student improves ImageNet classification",
arXiv:1911.04252.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from lib import artifacts, distributed, sharing
from lib.artifacts import ROUND_STEPS, read_manifest, read_metrics, round_dir
from lib.errors import UserError

log = logging.getLogger(__name__)

GOLD, BASE = "01_gold_data", "02_base_classifier"
FINAL = ROUND_STEPS[-1]


def run(run_dir: Path, rounds: int, do_step: Callable[[str, Path, str], bool]) -> bool:
    """Run the rounds after the first, which is complete, and write rounds.json.

    Args:
        rounds: at most so many in all, the first one included.
        do_step: does a step if it is not done: (step, run folder, title) -> success.
    Returns:
        False if a step failed.
    """
    history = [entry(0, run_dir, BASE), entry(1, run_dir, FINAL)]
    history[1]["gain"] = history[1]["value"] - history[0]["value"]
    best, why = 1, None
    while len(history) <= rounds:
        number = len(history)
        if history[-1]["gain"] <= 0:
            why = f"round {number - 1} does not improve validation"
            break
        folder = prepare(run_dir, number)
        try:
            if not all(do_step(name, folder, f"[round {number}] {name}") for name in ROUND_STEPS):
                return False
        except UserError as error:  # such as: no text of a class passes the filter any more
            why = f"round {number} cannot be completed: {error}"
            break
        history.append(entry(number, folder, FINAL))
        history[-1]["gain"] = history[-1]["value"] - history[-2]["value"]
        best = number if history[-1]["gain"] > 0 else best
    first = artifacts.digest(read_manifest(run_dir, FINAL)["outputs"])
    found = {"first": first, "best": best, "rounds": history, "stopped": why}
    artifacts.write_json(run_dir / artifacts.ROUNDS, found)
    print("\n" + table(found).to_string(index=False) + "\n")
    if why:
        log.info("no further round: %s", why)
    return True


def prepare(run_dir: Path, number: int) -> Path:
    """Make the folder of a round: gold and corpus of the run, the model of the round before.

    Returns:
        The folder, in which 03 to 05 can run.
    Raises:
        UserError: the round before is not complete.
    """
    previous, target = round_dir(run_dir, number - 1), round_dir(run_dir, number)
    if read_manifest(previous, FINAL) is None:
        raise UserError(f"round {number} needs {previous / FINAL}, which is not complete")
    with distributed.main_first():
        target.mkdir(parents=True, exist_ok=True)
        if distributed.is_main():
            sharing.clean(target)
        for step, source, as_step in ((GOLD, run_dir, GOLD), (FINAL, previous, BASE)):
            if read_manifest(target, as_step) != read_manifest(source, step):
                sharing.share(step, source, target, as_step)
    return target


def entry(number: int, run_dir: Path, step: str) -> dict[str, Any]:
    """A round in rounds.json: macro-F1 on gold validation (value, low, high), share kept, gain.

    `gain` is over the best before; round 0 is the base classifier. `kept_share` is the share of the
    corpus that the round trains on.
    """
    rows = read_metrics(run_dir, step)
    row = next(r for r in rows if r["name"] == "macro_f1" and r["split"] == "validation")
    filtered = read_metrics(run_dir, "04_cluster_purity") if step == FINAL else []
    kept = next((r["value"] for r in filtered if r["name"] == "kept_share"), None)
    return {
        "round": number,
        "value": row["value"],
        "low": row["low"],
        "high": row["high"],
        "gain": None,
        "kept_share": kept,
    }


def table(found: dict[str, Any]) -> pd.DataFrame:
    """rounds.json as a readable table; gains within the intervals are not established."""
    rows = []
    for row in found["rounds"]:
        kept = row["kept_share"]
        name = "base" if row["round"] == 0 else str(row["round"])
        rows.append(
            {
                "round": name + (" (kept)" if row["round"] == found["best"] else ""),
                "validation macro_f1": f"{row['value']:.3f}",
                "95% interval": f"{row['low']:.3f} … {row['high']:.3f}",
                "gain": "–" if row["gain"] is None else f"{row['gain']:+.3f}",
                "pseudo-labels kept": "–" if kept is None else f"{kept:.1%}",
            }
        )
    return pd.DataFrame(rows)


def html_section(run_dir: Path) -> str:
    """The rounds for the front page of a report; nothing if there was one round only."""
    found = artifacts.read_rounds(run_dir)
    if found is None:
        return ""
    stopped = (
        f"<p>No further round: {html.escape(found['stopped'])}.</p>" if found["stopped"] else ""
    )
    return (
        f"<h2>Rounds</h2>{table(found).to_html(index=False, border=0)}{stopped}"
        "<p>Macro-F1 on gold validation, which chose the round that is kept; <em>gain</em> is over "
        "the round before, and not established where it is small against the intervals.</p>"
    )
