"""The repository's own results: the page agrees with the CSV files, and its notebook runs."""

import re

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest

from lib.runs.fingerprints import PROJECT

RESULTS = PROJECT / "notebooks" / "results"
SWEEPS = ["ablation_500", "ablation_2000", "ablation_all"]


def table_rows(page: str) -> list[list[str]]:
    """The cells of all lines of a page's tables."""
    lines = (RESULTS / page).read_text(encoding="utf-8").splitlines()
    return [re.split(r" *\| *", line.strip("| ")) for line in lines if line.startswith("|")]


def numbers(text: str) -> list[float]:
    plain = text.replace("−", "-").replace("+", "")
    return [float(number) for number in re.findall(r"-?\d+\.\d+", plain)]


@pytest.mark.parametrize("sweep", SWEEPS)
def test_the_table_holds_what_the_csv_files_hold(sweep):
    table = table_rows("posts.md")
    header = next(row for row in table if row[0] == "variant" and sweep in row)
    rows = {row[0]: row for row in table if len(row) == len(header)}
    means = pd.read_csv(RESULTS / sweep / "seeds.csv").query(
        "dataset == 'gold' and split == 'test'"
    )
    columns = ["macro_f1", "difference", "difference_low", "difference_high"]
    columns += ["difference_texts_low", "difference_texts_high"]
    for variant, *values in means[["variant", *columns]].itertuples(index=False):
        found = numbers(rows.pop(variant)[header.index(sweep)])
        expected = [value for value in values if not np.isnan(value)]
        assert found == pytest.approx(expected, abs=0.00051), variant
    empty = {row[header.index(sweep)] for name, row in rows.items() if re.match("[a-i]_", name)}
    assert empty <= {"–"}


def test_the_notebook_draws_all_sweeps(monkeypatch):
    monkeypatch.chdir(RESULTS)
    notebook = nbformat.read(RESULTS / "results.ipynb", as_version=4)
    variables: dict = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            exec(cell.source, variables)
    axes = variables["figure"].axes
    assert len(axes) == 6 and SWEEPS[0] in axes[0].get_title()
    verdicts = pd.DataFrame(variables["rows"]).groupby("verdict").size()
    assert verdicts.to_dict() == {"not shown": 18, "harms": 1}
    plt.close("all")


def test_the_table_of_many_domains_holds_what_the_csv_file_holds():
    names = {
        "RuSentiment test": "rusentiment_test",
        "RuReviews test": "RuReviews test (ai-forever/ru-reviews-classification)",
        "both": "gold",
        "mean over corpus sources": "mean over other domains",
        "all audit texts": "all audit texts",
    }
    rows = [row for row in table_rows("README.md") if row[0] in names and len(row) == 8]
    found = pd.read_csv(RESULTS / "domains" / "seeds.csv").set_index(["variant", "dataset"])
    assert len(rows) == len(names)
    for row in rows:
        dataset = names[row[0]]
        ends = ["macro_f1_texts_low", "macro_f1_texts_high"]
        expected = [
            found.loc[(variant, dataset), "macro_f1"] for variant in ("TF-IDF", "linear probe")
        ]
        for variant in ("a_base", "d_purity"):
            expected += found.loc[(variant, dataset), ["macro_f1", *ends]].tolist()
        paired = ["difference", "difference_texts_low", "difference_texts_high"]
        paired += ["difference_low", "difference_high"]
        expected += found.loc[("d_purity", dataset), paired].tolist()
        assert numbers(" ".join(row[2:])) == pytest.approx(expected, abs=0.00051), dataset


def test_the_table_of_easy_questions_holds_what_the_csv_file_holds():
    rows = pd.read_csv(RESULTS / "domains" / "inflation.csv")
    means = rows.groupby(["dataset", "model"])["macro_f1"].mean()
    names = {
        "gold validation": "gold",
        "a random share": "training mix",
        "pseudo": "pseudo-labelled",
    }
    for begin, dataset in names.items():
        (row,) = [row for row in table_rows("README.md") if row[0].startswith(begin)]
        expected = [means[dataset, model] for model in ("base", "final")]
        assert numbers(" ".join(row[2:])) == pytest.approx(expected, abs=0.00051)


def test_the_table_of_the_reports_filter_holds_what_the_csv_files_hold():
    files = {"report's": ("report.csv", "b_report"), "ours": ("comparison.csv", "d_purity")}
    rows = [row for row in table_rows("README.md") if row[0].split(" ")[0].strip(",") in files]
    assert len(rows) == 4
    for filter_, seed, *values in rows:
        file, variant = files[filter_.split(" ")[0].strip(",")]
        found = pd.read_csv(RESULTS / "domains" / file)
        chosen = (found["variant"] == variant) & (found["seed"] == int(seed))
        found = found[chosen].set_index("dataset")
        paired = ["difference", "difference_texts_low", "difference_texts_high"]
        for dataset, value in zip(
            ["gold", "all audit texts", "mean over other domains"], values, strict=True
        ):
            expected = found.loc[dataset, paired].tolist()
            assert numbers(value) == pytest.approx(expected, abs=0.00051), (filter_, seed)
