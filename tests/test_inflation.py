from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from lib.evaluation import inflation

OPTIONS = {"samples": 200, "seed": 0}


def frame(count: int, right: float, seed: int) -> pd.DataFrame:
    """Base is right on about so many texts; final agrees with base but for every 10th."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 3
    base = np.where(rng.random(count) < right, label, (label + 1) % 3)
    final = np.where(np.arange(count) % 10 == 0, (base + 1) % 3, base)
    columns = {"label": label, "base_predicted": base, "final_predicted": final}
    return pd.DataFrame(columns | {"text_id": [f"{seed}-{i}" for i in range(count)]})


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    return {
        "test": frame(300, 0.5, seed=3),
        "validation": frame(300, 0.6, seed=1),
        "heldout": frame(600, 1.0, seed=2),
    }


@pytest.mark.parametrize(
    ("share", "gold", "pseudo"), [(0.5, 300, 300), (0.75, 200, 600), (0.9, 67, 600), (0.2, 300, 75)]
)
def test_the_mix_is_the_largest_with_that_share(tables, share, gold, pseudo):
    mix = inflation.validation_mix(tables["validation"], tables["heldout"], share, seed=0)
    assert mix["text_id"].str.startswith("1-").sum() == gold
    assert mix["text_id"].str.startswith("2-").sum() == pseudo
    assert mix["text_id"].is_unique


def test_each_set_has_its_figures(tables):
    rows = inflation.compare_sets(tables, 0.75, **OPTIONS)
    found = {(r["split"], r["model"]): r["value"] for r in rows if r["name"] == "macro_f1"}
    mix = inflation.validation_mix(tables["validation"], tables["heldout"], 0.75, seed=0)
    sets = {"validation": tables["validation"], "random validation": mix}
    for split, part in (sets | {"held out": tables["heldout"]}).items():
        for model in ("base", "final"):
            expected = f1_score(part["label"], part[f"{model}_predicted"], average="macro")
            assert found[split, model] == pytest.approx(expected)


def test_without_pseudo_labelled_texts_only_the_clean_set_is_left(tables):
    tables["heldout"] = tables["heldout"].head(0)
    rows = inflation.compare_sets(tables, 0.0, **OPTIONS)
    assert {row["split"] for row in rows} == {"validation"}
