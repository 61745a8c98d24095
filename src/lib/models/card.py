"""The model card: what a run says of its model, as the README.md of the exported folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from lib import LABELS
from lib.artefacts import changed_inputs, read_manifest, read_metrics
from lib.data.registry import REGISTRY
from lib.files import write_text
from lib.metrics import with_interval
from lib.models import embedded

FREE = {"MIT", "Apache-2.0"}
ELSEWHERE = "see where it comes from"
_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]|#$~<"})


def write(
    folder: Path,
    about: dict[str, Any],
    run_dir: Path,
    gold: dict[str, Any],
    base: dict[str, Any],
    final: dict[str, Any],
) -> None:
    """Write README.md, with the metadata that the Hugging Face hub reads.

    Args:
        about: content of export.json; run_dir: the run that the model is of.
        gold, base, final: the parameters of its steps 01, 02 and 05.
    """
    sources = [REGISTRY[name] for name in gold["sources"]]
    base_model, licence = base_model_of(base["base_model"])
    if (start := base.get("start_model")) and final.get("start_from") != "base_model":
        base_model, licence = Path(start).name, ELSEWHERE  # its weights may be of another model
    labelled = pd.read_parquet(run_dir / "01_gold_data" / "tables" / "gold.parquet")
    filters = read_manifest(run_dir, "04_cluster_purity") or {}
    evaluated = read_manifest(run_dir, "06_final_eval")
    if evaluated and not changed_inputs(run_dir, evaluated):
        rows = read_metrics(run_dir, "06_final_eval")
    else:
        rows = []  # of no final model, or of another one
    licences = {licence, *(source.licence for source in sources)}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lib.models"), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "interval": lambda value: with_interval(value["value"], value["low"], value["high"]),
        "text": lambda value: " ".join(str(value).split()).translate(_MARKS),
    }
    text = environment.get_template("model_card.md.j2").render(
        about=about,
        labels=LABELS,
        licence=licence.lower() if len(licences) == 1 and licences <= FREE else "other",
        base_model=base_model,
        base_licence=licence,
        sources=sources,
        counts=labelled["split"].value_counts().to_dict(),
        gold=gold,
        base=base,
        final=final,
        filters=filters.get("parameters", {}),
        figures=[
            row
            for row in rows
            if (row["name"], row["model"]) == ("macro_f1", "final")
            and row["split"] in ("test", "audit")
        ],
        sample="sample" in gold["sources"],
    )
    write_text(folder / "README.md", text)


def base_model_of(name: str) -> tuple[str, str]:
    """The hub's name of a base model, and its licence; of a local directory only its last part."""
    if name == embedded.EMBEDDED_NAME:
        return "intfloat/multilingual-e5-small", "MIT"
    if Path(name).expanduser().is_dir():
        return Path(name).name, ELSEWHERE
    return name, "see its page on the hub"
