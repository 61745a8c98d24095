"""Parameter files: what is wrong is said in one line each, with the nearest valid name."""

import re
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib import parameters
from lib.errors import UserError
from lib.parameters import APPENDICES, CHAPTERS, STEPS
from lib.runs import fingerprints
from lib.runs import parameter_files as files

PARAMS = Path(__file__).parent.parent / "params"
FILES = sorted(PARAMS.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_parameter_file_loads_as_written(path):
    loaded = files.load(path)
    assert loaded.run == path.stem
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    for step in CHAPTERS:
        for name, value in (written.get(step) or {}).items():
            assert getattr(loaded.steps[step], name) == value


def test_values_of_the_original_report():
    for run in (files.resolve({}, []), files.load(PARAMS / "full.yaml")):
        clusters = run.steps["04_cluster_purity"]
        assert (clusters.clusters, clusters.min_purity, clusters.min_confidence) == (2000, 0.9, 0.8)
        assert run.steps["03_embed_corpus"].pca_dimensions == 128
        assert run.steps["05_metric_learning"].base_model == "jhu-clsp/mmBERT-base"


def test_the_full_configuration_names_every_data_set():
    from lib.data.registry import REGISTRY

    gold = files.load(PARAMS / "full.yaml").steps["01_gold_data"]
    assert set(gold.sources) == set(REGISTRY) - {"sample", "local"}


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        ({"04_cluster_purity": {"min_puritty": 0.7}}, ["no such parameter", "'min_purity'"]),
        ({"sead": 3}, ["sead: no such step or parameter", "'seed'"]),
        ({"04_cluster_puritty": {"clusters": 5}}, ["'04_cluster_purity'"]),
        ({"04_cluster_purity": {"min_purity": 1.5}}, ["less than or equal to 1, got 1.5"]),
        ({"01_gold_data": {"max_corpus": 9}}, ["greater than or equal to 10, got 9"]),
        ({"01_gold_data": {"max_corpus": "x"}}, ["should be a valid integer, got 'x'"]),
        ({"01_gold_data": {"sources": []}}, ["at least 1 item", "got []"]),
        ({"01_gold_data": {"sources": [1]}}, ["sources[0]", "a valid string, got 1"]),
        ({"02_base_classifier": {"epochs": 2.5}}, ["a valid integer, got 2.5"]),
        ({"02_base_classifier": {"epochs": True}}, ["a valid integer, got True"]),
        ({"02_base_classifier": {"calibrate": 1}}, ["a valid boolean, got 1"]),
        ({"02_base_classifier": {"pooling": "meen"}}, ["'cls' or 'mean', got 'meen'", "is 'mean'"]),
        ({"04_cluster_purity": {"min_purity": float("nan")}}, ["a finite number, got nan"]),
        ({"05_metric_learning": {"lambda_metric": [0.1, 200.0]}}, ["lambda_metric[1]", "got 200"]),
        ({"05_metric_learning": {"lambda_metric": 0.1}}, ["a valid list, got 0.1"]),
        ({"lambda_metric": [0.5, 0.5]}, ["05_metric_learning.lambda_metric: holds a value twice"]),
        ({"04_cluster_purity": [1]}, ["04_cluster_purity: expected `name: value` lines, got [1]"]),
        ({"local_labels": {"negative": [False]}}, ["local_labels: YAML reads yes, no, "]),
        ({"local_labels": {"neutral": [None]}}, ["null as no text; quote them"]),
        ({"run": "../x"}, ["run: '../x' is not a folder name"]),
        ({"delimiter": '"'}, ["delimiter: a quotation mark or a line break cannot stand between"]),
        ({"delimiter": "\n"}, ["delimiter: a quotation mark or a line break", "got '\\n'"]),
        ({"delimiter": "||"}, ["delimiter: String should have at most 1 character, got '||'"]),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(content, fragments):
    with pytest.raises(UserError) as error:
        files.resolve(content, [])
    head, line = str(error.value).splitlines()
    assert head == "invalid parameters:"
    assert all(fragment in line for fragment in fragments), line


def test_all_problems_are_said_at_once():
    with pytest.raises(UserError) as error:
        files.resolve({"sead": 1, "clusters": 1}, ["epochs", "05.steps=x", "9.steps=1"])
    assert len(str(error.value).splitlines()) == 6


@pytest.mark.parametrize(
    ("override", "step", "name", "value"),
    [
        ("learning_rate=1e-4", "05_metric_learning", "learning_rate", 1e-4),
        ("05.steps=7", "05_metric_learning", "steps", 7),
        ("02_base_classifier.epochs=2", "02_base_classifier", "epochs", 2),
        ("seed=3", "appendix_spaces", "seed", 3),
        ("sources=[local, cedr]", "01_gold_data", "sources", ["local", "cedr"]),
        ("data_dir=", "01_gold_data", "data_dir", None),
        ("data_dir='1e3'", "01_gold_data", "data_dir", "1e3"),
        *(
            (f"{step}delimiter={given}", "01_gold_data", "delimiter", meant)
            for step in ("", "1.")
            for given, meant in (
                *(("|", "|"), (",", ","), ("\\t", "\t"), ("tab", "\t"), ("\t", "\t"), ("';'", ";")),
                *(("^", "^"), ("'", "'"), ("null", None), ("", None)),
            )
        ),
    ],
)
def test_overrides_win(override, step, name, value):
    run = files.resolve({"seed": 1, "learning_rate": 0.5, step: {}}, [override, "run=mine"])
    assert getattr(run.steps[step], name) == value
    assert run.run == "mine"


@settings(max_examples=15)
@example("1e3")
@given(st.text())
def test_printed_parameters_load_again(text):
    name = text if re.fullmatch(r"\w+", text) else "run"
    given = {"data_dir": text, "sources": [text, "sample"]}
    run = files.resolve({"run": name, "01_gold_data": given}, [])
    again = files.resolve(yaml.load(files.to_yaml(run), Loader=files._Loader), [])
    assert again == run


def test_what_is_no_parameter_file_is_said(tmp_path):
    with pytest.raises(UserError, match=r"does not exist; in .*params: \['demo.yaml'"):
        files.load(PARAMS / "dmo.yaml")
    for content in ("- 1", "a: [", "\xff", "seed: 1\nseed: 2", "02_base: {a: 1, a: 1}"):
        path = tmp_path / "x.yaml"
        path.write_bytes(content.encode("latin-1"))
        with pytest.raises(UserError, match=r"x\.yaml"):
            files.load(path)


@pytest.mark.parametrize("step", CHAPTERS)
def test_a_notebook_explains_its_parameters(step):
    """Its cell holds what parameter files change, as papermill --help-notebook reads it."""
    path = fingerprints.notebook_path(step)
    shown = papermill.inspect_notebook(str(path))
    schema = CHAPTERS[step].model_fields
    changed = {"run_dir", "seed"}
    for file in FILES:
        written = files.read_yaml(file)
        given = {**{n: v for n, v in written.items() if n in schema}, **(written.get(step) or {})}
        changed |= set(given)
    if step in STEPS:
        assert changed <= set(shown), sorted(changed - set(shown))
    assert set(shown) <= set(schema) | {"run_dir"}
    for name, about in shown.items():
        assert about["help"], f"{name} of {step} has no comment"
        assert about["inferred_type_name"] not in (None, "None"), f"{name} of {step} has no type"


@pytest.mark.parametrize("step", CHAPTERS)
def test_no_variable_of_a_notebook_has_the_name_of_a_parameter(step):
    """A cell that is run again would take it for one."""
    import ast

    names = set()
    for cell in fingerprints.code_cells(step):
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.ImportFrom | ast.Import):
                names |= {alias.asname or alias.name for alias in node.names}
    assert not names & set(CHAPTERS[step].model_fields)


@pytest.mark.parametrize("step", CHAPTERS)
def test_the_parameters_cell_is_valid_and_the_demos(step):
    path = fingerprints.notebook_path(step)
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    variables: dict = {}
    exec(cell.source, variables)
    found = parameters.from_cell(step, variables)
    demo = files.load(PARAMS / "demo.yaml").steps[step]
    assert found.model_dump(include=set(variables)) == demo.model_dump(include=set(variables))
    assert variables["run_dir"] == "../outputs/demo"
    assert step in STEPS or step in APPENDICES
