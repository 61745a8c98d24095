from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from lib import inflation
from lib.final_eval import compare_models

ABOUT = {"samples": 200, "seed": 0}


def frame(count: int, right: float, seed: int) -> pd.DataFrame:
    """Base is right on about so many texts; final always agrees with base but for every 10th."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 3
    base = np.where(rng.random(count) < right, label, (label + 1) % 3)
    final = np.where(np.arange(count) % 10 == 0, (base + 1) % 3, base)
    columns = {"label": label, "base_predicted": base, "final_predicted": final}
    return pd.DataFrame(columns | {"text_id": [f"{seed}-{i}" for i in range(count)]})


@pytest.fixture
def validation() -> pd.DataFrame:
    return frame(300, 0.6, seed=1)


@pytest.fixture
def heldout() -> pd.DataFrame:
    return frame(600, 1.0, seed=2)


def test_share_of_the_training_mix_by_hand():
    # 100 held out of 1000: 900 pseudo-labelled texts train beside 300 gold texts
    assert inflation.pseudo_share(300, 100, 0.1) == pytest.approx(0.75)
    assert inflation.pseudo_share(300, 0, 0.1) == 0


@pytest.mark.parametrize(
    ("share", "gold", "pseudo"),
    [(0.5, 300, 300), (0.75, 200, 600), (0.9, 67, 600), (0.2, 300, 75), (0.0, 300, 0)],
)
def test_the_mix_is_the_largest_with_that_share(validation, heldout, share, gold, pseudo):
    mix = inflation.validation_mix(validation, heldout, share, seed=0)
    assert (~mix["pseudo"]).sum() == gold and mix["pseudo"].sum() == pseudo
    assert mix["text_id"].is_unique
    assert set(mix.loc[mix["pseudo"], "text_id"]) <= set(heldout["text_id"])
    assert set(mix.loc[~mix["pseudo"], "text_id"]) <= set(validation["text_id"])
    again = inflation.validation_mix(validation, heldout, share, seed=0)
    pd.testing.assert_frame_equal(mix, again)


def test_the_curve_leads_from_gold_to_pseudo_labels(validation, heldout):
    curve = inflation.curve(validation, heldout)
    assert curve["share"].iloc[[0, 50, 100]].tolist() == [0, 0.5, 1]
    for model in ("base", "final"):
        columns = ["label", f"{model}_predicted"]
        ends = [f1_score(*f[columns].to_numpy().T, average="macro") for f in (validation, heldout)]
        assert curve[model].iloc[[0, 100]].tolist() == pytest.approx(ends)
        # half of each: two copies of validation weigh as much as the 600 held-out texts
        half = pd.concat([validation, validation, heldout])[columns].to_numpy().T
        assert curve[model][50] == pytest.approx(f1_score(*half, average="macro"))
    assert curve["base"].is_monotonic_increasing


def test_the_share_that_is_enough_for_a_figure(validation, heldout):
    curve = inflation.curve(validation, heldout)
    share = inflation.share_reaching(curve, "base", 0.9)
    assert 0 < share < 1
    assert curve.loc[curve["share"] < share, "base"].max() < 0.9
    assert inflation.share_reaching(curve, "base", 0.0) == 0
    assert inflation.share_reaching(curve, "final", 0.99) is None


def test_the_explanation_states_the_figures(validation, heldout):
    share = 0.75
    mix = inflation.validation_mix(validation, heldout, share, seed=0)
    sets = {
        "test": (inflation.TEST, frame(300, 0.5, seed=3)),
        "validation": (inflation.CLEAN, validation),
        "mix": (inflation.MIX, mix),
        "pseudo": (inflation.HELD_OUT, heldout),
    }
    rows = [row for about, part in sets.values() for row in compare_models(part, **about, **ABOUT)]
    curve = inflation.curve(validation, heldout)
    text = inflation.explain(rows, share, curve)
    assert text.startswith("75% of the training texts are pseudo-labelled.")
    for about, part in sets.values():
        for model in ("base", "final"):
            value = f1_score(part["label"], part[f"{model}_predicted"], average="macro")
            assert f"{value:.3f}" in text, (about, model)
    needed = inflation.share_reaching(curve, "base")
    assert f"reads 0.9 with {needed:.0%} of such texts" in text
    # a final model that agrees with 9 of 10 pseudo-labels does not reach it
    assert ("never reads 0.9" in text) == (inflation.share_reaching(curve, "final") is None)


def test_without_pseudo_labelled_texts_there_is_nothing_to_explain(validation):
    nothing = validation.head(0)
    mix = inflation.validation_mix(validation, nothing, 0.0, seed=0)
    rows = [
        r
        for about in (inflation.TEST, inflation.CLEAN)
        for r in compare_models(validation, **about, **ABOUT)
    ]
    assert (
        len(mix) == len(validation) and compare_models(nothing, **inflation.HELD_OUT, **ABOUT) == []
    )
    assert "nothing to compare" in inflation.explain(
        rows, 0.0, inflation.curve(validation, nothing)
    )
