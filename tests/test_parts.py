"""The dependency table: which parameters concern which part; no part is made here."""

import json
from pathlib import Path

import pytest

from lib.runs import parameter_files, parts
from lib.runs.fingerprints import PROJECT


class Recorder:
    """A step that writes down what its parts are given."""

    def __init__(self, params, calls):
        self.params, self.calls, self.run_dir = params, calls, Path("run")

    def input(self, step, file):
        return self.run_dir / step / file

    def make(self, name, function, *, together, **arguments):
        self.calls[name] = json.dumps(arguments, default=repr, sort_keys=True)
        return self.run_dir / "new" / name


@pytest.fixture
def given(monkeypatch):
    """Overrides -> part -> all that it is given."""
    manifest = {"parameters": {"clusters": 7, "cluster_space": "base_classifier"}}
    monkeypatch.setattr(parts, "read_manifest", lambda *_: manifest)

    def given(*overrides):
        params = parameter_files.load(PROJECT / "params" / "demo.yaml", list(overrides)).steps
        calls = {}
        one, two, three, four, five, six = (
            Recorder(params[step], calls) for step in list(params)[:6]
        )
        parts.tables(one)
        parts.base_model(two)
        calls["base"] = calls.pop("model")
        parts.pca(three)
        kmeans = parts.kmeans(four)
        parts.corpus_map(four, kmeans)
        parts.words(four, kmeans)
        candidates = parts.TOGETHER["05_metric_learning"](five)
        parts.final_model(five, candidates)
        parts.spaces(six, parts.predictions(six))
        parts.perturbed(Recorder(params["appendix_robustness"], calls))
        return calls

    return given


@pytest.mark.parametrize(
    ("override", "concerned"),
    [
        ("min_purity=0.95", set()),
        ("04.umap_points=60", {"map"}),
        ("pca_dimensions=9", {"pca"}),
        ("clusters=8", {"kmeans/8", "words", "map"}),
        ("03.shard_size=20", {"embeddings"}),
        ("02.epochs=9", {"base"}),
        ("05.temperature=0.2", {"candidates/0", "candidates/0.5"}),
        ("05.calibrate=false", {"model"}),
        ("linear_probe=false", {"embeddings"}),
        ("perturbation_texts=20", {"perturbed"}),
    ],
)
def test_a_parameter_concerns_its_part_and_no_more(given, override, concerned):
    """What comes after a part is made again by its content, which is no parameter."""
    before, after = given(), given(override)
    assert {name for name in after if after[name] != before.get(name)} == concerned


def test_a_local_model_counts_by_its_content(given, tmp_path):
    """So it is given as a path; a name on a hub is given as it is."""
    assert f"PosixPath('{tmp_path}')\"" in given(f"base_model={tmp_path}")["base"]
    assert '"base_model": "embedded:e5-small"' in given()["base"]
