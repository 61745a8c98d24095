import re
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib import params, schema
from lib.errors import UserError

PARAMS = Path(__file__).parent.parent / "params"
FILES = sorted(PARAMS.glob("*.yaml"))


def problems(content, overrides=()):
    """The lines of the one UserError that `content` gives."""
    with pytest.raises(UserError) as error:
        params.resolve(content, list(overrides))
    head, *lines = str(error.value).splitlines()
    assert head == "invalid parameters:"
    return [line.strip() for line in lines]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_parameter_file_loads_and_names_its_run(path):
    loaded = params.load(path)
    assert loaded.run == path.stem
    assert list(loaded.steps) == list(params.STEPS)
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    for step in params.STEPS:
        for name, value in (written.get(step) or {}).items():
            assert getattr(loaded.steps[step], name) == value


def test_there_are_the_four_parameter_files():
    expected = {"demo.yaml", "few_gold.yaml", "full.yaml", "local.yaml"}
    assert {path.name for path in FILES} == expected


@pytest.mark.parametrize("source", ["defaults", "full.yaml"])
def test_values_of_the_original_report(source):
    run = params.resolve({}, []) if source == "defaults" else params.load(PARAMS / source)
    clusters = run.steps["04_cluster_purity"]
    assert (clusters.clusters, clusters.min_purity, clusters.min_confidence) == (2000, 0.9, 0.8)
    assert run.steps["03_embed_corpus"].pca_dimensions == 128
    for step in ("02_base_classifier", "05_metric_learning"):
        assert run.steps[step].base_model == "jhu-clsp/mmBERT-base"


def test_the_full_configuration_names_every_data_set():
    from lib.registry import REGISTRY

    gold = params.load(PARAMS / "full.yaml").steps["01_gold_data"]
    others = {name for name, source in REGISTRY.items() if source.role == "foreign"}
    assert set(gold.sources) == set(REGISTRY) - {"sample", "local"} - others
    assert not gold.skip_unavailable
    head = (PARAMS / "full.yaml").read_text(encoding="utf-8").split("run:")[0]
    for source in (REGISTRY[name] for name in gold.sources):
        for names in source.files.values():
            assert all(name.replace(".*", ".csv") in head for name in names)


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        pytest.param(
            {"01_gold_data": {"local_labels": "star"}},
            ["01_gold_data.local_labels", "names, codes, stars, ten_point", "'stars'"],
            id="misspelt choice",
        ),
        pytest.param(
            {"01_gold_data": {"yandex_1m_files": []}},
            ["01_gold_data.yandex_1m_files", "a list of (a text)", "length >= 1"],
            id="no file name",
        ),
        pytest.param(
            {"04_cluster_purity": {"min_puritty": 0.7}},
            ["04_cluster_purity.min_puritty", "no such parameter", "0.7", "'min_purity'"],
            id="misspelt in a section",
        ),
        pytest.param(
            {"sead": 3}, ["sead", "no such step or parameter", "'seed'"], id="misspelt at the top"
        ),
        pytest.param(
            {"04_cluster_puritty": {"clusters": 5}},
            ["04_cluster_puritty", "'04_cluster_purity'"],
            id="misspelt step",
        ),
        pytest.param(
            {"04_cluster_purity": {"min_purity": 1.5}},
            ["04_cluster_purity.min_purity", "a number", ">= 0", "<= 1", "got 1.5"],
            id="above the bound",
        ),
        pytest.param(
            {"01_gold_data": {"validation_share": 0.5}},
            ["01_gold_data.validation_share", "> 0", "< 0.5", "got 0.5"],
            id="on an open bound",
        ),
        pytest.param(
            {"01_gold_data": {"max_corpus": 9}},
            ["01_gold_data.max_corpus", "a whole number or null", ">= 10", "got 9"],
            id="optional, below the bound",
        ),
        pytest.param(
            {"01_gold_data": {"sources": []}},
            ["01_gold_data.sources", "a list of (a text)", "length >= 1", "got []"],
            id="list too short",
        ),
        pytest.param(
            {"02_base_classifier": {"epochs": "three"}},
            ["02_base_classifier.epochs", "a whole number", ">= 1", "<= 100", "got 'three'"],
            id="text for a number",
        ),
        pytest.param(
            {"02_base_classifier": {"epochs": 2.5}},
            ["02_base_classifier.epochs", "a whole number", "got 2.5"],
            id="fraction for a whole number",
        ),
        pytest.param(
            {"02_base_classifier": {"epochs": True}},
            ["02_base_classifier.epochs", "a whole number", "got True"],
            id="truth value for a number",
        ),
        pytest.param(
            {"01_gold_data": {"skip_empty_texts": 1}},
            ["01_gold_data.skip_empty_texts", "true or false", "got 1"],
            id="number for a truth value",
        ),
        pytest.param(
            {"04_cluster_purity": {"min_purity": float("nan")}},
            ["04_cluster_purity.min_purity", "got nan"],
            id="not a number",
        ),
        pytest.param(
            {"02_base_classifier": {"pooling": "meen"}},
            ["02_base_classifier.pooling", "one of cls, mean", "got 'meen'", "name is 'mean'"],
            id="wrong literal",
        ),
        pytest.param(
            {"05_metric_learning": {"lambda_metric": [0.1, 200.0]}},
            ["05_metric_learning.lambda_metric[1]", ">= 0", "<= 100", "got 200.0"],
            id="list element out of range",
        ),
        pytest.param(
            {"05_metric_learning": {"lambda_metric": 0.1}},
            ["05_metric_learning.lambda_metric", "a list of (a number", "got 0.1"],
            id="number for a list",
        ),
        pytest.param(
            {"05_metric_learning": [1, 2]},
            ["05_metric_learning", "name: value", "[1, 2]"],
            id="list for a section",
        ),
    ],
)
def test_one_mistake_gives_one_line_that_names_it(content, fragments):
    (line,) = problems(content)
    for fragment in fragments:
        assert fragment in line


def test_all_mistakes_are_reported_at_once():
    lines = problems(
        {
            "seed": -1,
            "learning_rat": 1,
            "01_gold_data": {"sources": "sample"},
            "04_cluster_purity": {"clusters": 1, "min_confidence": -0.1},
        },
        ["06.border_errors=0"],
    )
    places = {line.split(":")[0] for line in lines}
    assert places == {
        *(f"{step}.seed" for step in params.STEPS),
        "learning_rat",
        "01_gold_data.sources",
        "04_cluster_purity.clusters",
        "04_cluster_purity.min_confidence",
        "06_final_eval.border_errors",
    }


BOUNDS = [
    ("04_cluster_purity", "min_purity", 0.0, 1.0, True, True),
    ("04_cluster_purity", "clusters", 2, 100_000, True, True),
    ("01_gold_data", "test_share", 0.0, 0.5, False, False),
    ("02_base_classifier", "dropout", 0.0, 1.0, True, False),
]


@given(st.sampled_from(BOUNDS), st.data())
@settings(max_examples=60)
def test_accepted_exactly_within_the_bounds(bound, data):
    step, name, low, high, low_allowed, high_allowed = bound
    numbers = st.integers(-10, 100_010) if isinstance(low, int) else st.floats(-0.5, 1.5)
    value = data.draw(numbers | st.sampled_from([low, high]))
    allowed = (
        low < value < high or (value == low and low_allowed) or (value == high and high_allowed)
    )
    if allowed:
        assert getattr(params.resolve({step: {name: value}}, []).steps[step], name) == value
    else:
        (line,) = problems({step: {name: value}})
        assert line.startswith(f"{step}.{name}: ")


@pytest.mark.parametrize("override", ["04_cluster_purity.min_purity=0.95", "04.min_purity=0.95"])
def test_override_of_one_step(override):
    run = params.resolve({"04_cluster_purity": {"min_purity": 0.5, "clusters": 7}}, [override])
    assert run.steps["04_cluster_purity"].min_purity == 0.95
    assert run.steps["04_cluster_purity"].clusters == 7


def test_unqualified_override_goes_everywhere_and_beats_sections():
    run = params.resolve({"seed": 1, "02_base_classifier": {"seed": 2}}, ["seed=3"])
    assert {step.seed for step in run.steps.values()} == {3}


def test_a_section_beats_the_top_level_which_beats_the_default():
    run = params.resolve({"02_base_classifier": {"max_tokens": 64}, "max_tokens": 32}, [])
    found = {name: p.max_tokens for name, p in run.steps.items() if hasattr(p, "max_tokens")}
    assert found == {
        "02_base_classifier": 64,
        "03_embed_corpus": 32,
        "05_metric_learning": 32,
        "06_final_eval": 32,
    }


def test_the_last_override_wins():
    run = params.resolve({}, ["04.clusters=5", "clusters=6", "04.clusters=8"])
    assert run.steps["04_cluster_purity"].clusters == 8


def test_override_values_are_yaml():
    run = params.resolve({}, ["sources=[sample, local]", "data_dir=/data/тексты", "max_corpus=~"])
    gold = run.steps["01_gold_data"]
    assert (gold.sources, gold.data_dir, gold.max_corpus) == (
        ["sample", "local"],
        "/data/тексты",
        None,
    )


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("04.min_purity", ["04.min_purity", "name=value"]),
        ("04.min_purity=", ["04_cluster_purity.min_purity", "a number", "got None"]),
        ("07.seed=1", ["'07'", "nearest valid name"]),
        ("0.seed=1", ["no step '0'"]),
        ("04.seeed=1", ["04_cluster_purity.seeed", "'seed'"]),
        ("clusterz=9", ["clusterz", "'clusters'"]),
        ("sources=[sample", ["sources=[sample", "YAML"]),
    ],
)
def test_bad_override(override, fragments):
    (line,) = (
        problems({}, [override])
        if "YAML" not in fragments
        else (" ".join(problems({}, [override])),)
    )
    for fragment in fragments:
        assert fragment in line


def test_name_of_the_run(tmp_path):
    path = tmp_path / "мой_прогон.yaml"
    path.write_text("seed: 1\n", encoding="utf-8")
    assert params.load(path).run == "мой_прогон"
    assert params.load(path, ["run=x"]).run == "x"
    path.write_text("run: named\n", encoding="utf-8")
    assert params.load(path).run == "named"
    assert params.load(path, ["run=x", "run=y-1.2"]).run == "y-1.2"


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "../up", "a b", "a\\b", "-", "a\n"])
def test_bad_run_names(name):
    with pytest.raises(UserError, match=r"run: .* is not a folder name"):
        params.resolve({}, [f"run={name}"])
    with pytest.raises(UserError, match=r"run: .* is not a folder name"):
        params.resolve({"run": name}, [])


def test_missing_file_names_the_files_that_are_there(tmp_path):
    (tmp_path / "demo.yaml").touch()
    with pytest.raises(UserError, match=r"demos\.yaml does not exist.*demo\.yaml"):
        params.load(tmp_path / "demos.yaml")


@pytest.mark.parametrize(
    "content", [b"seed: [1\n", "seed: один".encode("cp1251"), b"- a\n- b\n", b"just text"]
)
def test_unreadable_file_is_named(tmp_path, content):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(path))):
        params.load(path)


def test_an_empty_file_gives_the_defaults(tmp_path):
    path = tmp_path / "empty.yaml"
    path.touch()
    assert params.load(path).steps == params.resolve({}, []).steps


def again(run):
    return params.resolve(yaml.safe_load(params.to_yaml(run)), [])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_to_yaml_round_trips_the_files(path):
    run = params.load(path)
    assert again(run) == run


@given(
    data_dir=st.none() | st.text(),
    sources=st.lists(st.text(), min_size=1, max_size=3),
    weights=st.lists(st.floats(0, 100), min_size=1, max_size=4),
    rate=st.floats(0, 1, exclude_min=True),
)
@example(data_dir="\x85", sources=["данные\x85"], weights=[0.0], rate=1.0)
@settings(max_examples=60)
def test_to_yaml_round_trips_any_values(data_dir, sources, weights, rate):
    run = params.resolve(
        {
            "learning_rate": rate,
            "01_gold_data": {"data_dir": data_dir, "sources": sources},
            "05_metric_learning": {"lambda_metric": weights},
        },
        [],
    )
    assert again(run) == run


@pytest.mark.parametrize(
    "name", ["demo", "мой", "a-b_c.d", "2024-01-01", "42", "007", "1.50", "no"]
)
def test_to_yaml_round_trips_the_run_name(name):
    run = params.resolve({}, [f"run={name}"])
    assert run.run == name
    assert again(run).run == name


def test_to_yaml_explains_every_parameter():
    text = params.to_yaml(params.resolve({}, []))
    for step_schema in params.STEPS.values():
        for name in step_schema.model_fields:
            assert re.search(rf"^  {name}: .+ # \S.*; \S", text, re.MULTILINE)


def test_from_cell_takes_the_parameters_and_ignores_other_variables():
    p = params.from_cell(
        "04_cluster_purity", {"clusters": 12, "run_dir": "x", "np": re, "__name__": "__main__"}
    )
    assert p == schema.ClusterPurityParams(clusters=12)


def test_from_cell_validates():
    with pytest.raises(UserError, match=r"04_cluster_purity\.clusters.*got 1"):
        params.from_cell("04_cluster_purity", {"clusters": 1})


def test_parameters_cannot_be_changed_after_validation():
    p = schema.ClusterPurityParams()
    with pytest.raises(ValueError, match="frozen"):
        p.clusters = 1
