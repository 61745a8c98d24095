"""What holds for the repository as a whole: pins, notebooks, the sample corpus, sizes."""

import ast
import json
import re
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lib import params
from lib.sources import SAMPLE_DIR

PROJECT = Path(__file__).parent.parent
STEPS = list(params.STEPS)


def notebook(step):
    text = (PROJECT / "notebooks" / f"{step}.ipynb").read_text(encoding="utf-8")
    return json.loads(text)["cells"]


def code_cells(step):
    return [cell for cell in notebook(step) if cell["cell_type"] == "code"]


def is_parameters(cell):
    return "parameters" in cell["metadata"].get("tags", [])


# --- pins ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def environment():
    text = (PROJECT / "environment.yml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["dependencies"]


def test_environment_and_pyproject_pin_the_same(pyproject, environment):
    pins = [*pyproject["dependencies"], *pyproject["optional-dependencies"]["dev"]]
    (pip,) = [entry["pip"] for entry in environment if isinstance(entry, dict)]
    assert [entry for entry in pip if entry.startswith("-")] == ["-e ."]
    assert sorted(entry for entry in pip if entry != "-e .") == sorted(pins)
    assert "torch==2.13.0" in pins
    for pin in pins:
        assert re.fullmatch(r"[a-z0-9-]+==\d+(\.\d+)+", pin), f"{pin} is no exact pin"


def test_the_environment_has_the_lowest_python_allowed(pyproject, environment):
    (python,) = [entry for entry in environment if str(entry).startswith("python=")]
    assert pyproject["requires-python"] == f">={python.removeprefix('python=')}"


# --- notebooks -------------------------------------------------------------------------------


EXPLORER = "explore_clusters"  # no step: it looks at a run


def test_there_is_one_notebook_per_step_and_the_explorer():
    found = sorted(path.stem for path in (PROJECT / "notebooks").glob("*.ipynb"))
    assert found == [*STEPS, EXPLORER]


def test_the_explorer_notebook_opens_the_demo_run():
    assert "".join(code_cells(EXPLORER)[0]["source"]) == 'run_dir = "../outputs/demo"'


@pytest.mark.parametrize("step", STEPS)
def test_the_parameters_cell_has_the_demo_values(step):
    """So that a notebook opened in Jupyter does what `make demo` does."""
    (cell,) = filter(is_parameters, notebook(step))
    assert cell["cell_type"] == "code"
    statements = ast.parse("".join(cell["source"])).body
    assert all(isinstance(s, ast.Assign) and len(s.targets) == 1 for s in statements)
    names = [s.targets[0].id for s in statements]
    assert len(set(names)) == len(names)
    found = {s.targets[0].id: ast.literal_eval(s.value) for s in statements}
    demo = params.load(PROJECT / "params" / "demo.yaml")
    assert found.pop("run_dir") == f"../outputs/{demo.run}"
    assert found == demo.steps[step].model_dump()
    assert params.from_cell(step, found) == demo.steps[step]


@pytest.mark.parametrize("step", [*STEPS, EXPLORER])
def test_notebooks_are_stripped(step):
    for cell in code_cells(step):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.parametrize("step", STEPS)
def test_notebooks_begin_with_a_title_and_use_their_own_step(step):
    first, *_ = notebook(step)
    assert first["cell_type"] == "markdown"
    assert "".join(first["source"]).startswith(f"# {step[:2]} · ")
    source = "\n".join("".join(cell["source"]) for cell in code_cells(step))
    assert f'from_cell("{step}"' in source
    assert f'open_step("{step}"' in source
    assert source.count("step.finish(") == 1


@pytest.mark.parametrize("step", [*STEPS, EXPLORER])
def test_notebook_cells_are_short(step):
    """Longer code belongs into the library; a parameters cell is as long as its schema."""
    for cell in code_cells(step):
        source = "".join(cell["source"])
        if not is_parameters(cell):
            lines = source.splitlines()
            assert len(lines) <= 16, f"{len(lines)} lines: {lines[0]} …"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= 10, f"{node.name} has {length} lines"


@pytest.mark.parametrize("step", STEPS)
def test_every_figure_has_a_sentence_on_how_to_read_it(step):
    """In the prose right below it, or right above."""
    cells = notebook(step)
    drawing = ("figure.savefig(", "umap_view(", "embedding_spaces(")
    for place, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and any(name in source for name in drawing):
            around = cells[place - 1 : place] + cells[place + 1 : place + 2]
            prose = [c["source"] for c in around if c["cell_type"] == "markdown"]
            assert any("How to read it" in "".join(text) for text in prose), source


# --- the sample corpus -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample():
    return {
        name: pd.read_csv(SAMPLE_DIR / f"{name}.csv", keep_default_na=False)
        for name in ("gold", "corpus")
    }


def plain(text):
    return re.findall(r"[^\W_]+", text.lower().replace("ё", "е"))


def test_size_of_the_sample(sample):
    labels = Counter(sample["gold"]["label"])
    assert set(labels) == {"negative", "neutral", "positive"}
    assert min(labels.values()) >= 180
    assert labels.total() >= 600
    assert len(sample["corpus"]) >= 1800
    for frame in sample.values():
        assert frame["source"].nunique() >= 6
        assert frame["text"].str.strip().ne("").all()


def test_no_text_of_the_sample_is_there_twice(sample):
    texts = [text for frame in sample.values() for text in frame["text"]]
    keys = Counter(" ".join(plain(text)) or text for text in texts)
    assert [key for key, count in keys.items() if count > 1] == []


def test_the_sample_is_not_made_from_templates(sample):
    """No two texts share half of their word 3-grams."""
    texts = [text for frame in sample.values() for text in frame["text"]]
    grams = []
    for text in texts:
        words = plain(text)
        grams.append({tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))})
    holders = defaultdict(list)
    for number, found in enumerate(grams):
        for gram in filter(None, found):
            holders[gram].append(number)
    common = Counter(
        (low, high)
        for numbers in holders.values()
        for place, high in enumerate(numbers)
        for low in numbers[:place]
    )
    alike = [
        (texts[low], texts[high])
        for (low, high), count in common.items()
        if count >= 0.5 * (len(grams[low]) + len(grams[high]) - count)
    ]
    assert alike == []


# --- sources ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "src" / "lib").rglob("*.py")), ids=lambda path: path.name
)
def test_no_module_is_longer_than_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_no_paths_of_one_machine():
    kinds = {
        ".py",
        ".ipynb",
        ".yaml",
        ".yml",
        ".csv",
        ".css",
        ".js",
        ".md",
        ".toml",
        ".json",
        ".txt",
    }
    files = [PROJECT / "README.md"] if (PROJECT / "README.md").exists() else []
    for folder in ("src", "notebooks", "params"):
        files += [
            path
            for path in (PROJECT / folder).rglob("*")
            if path.suffix in kinds and not any(".egg-info" in part for part in path.parts)
        ]
    assert len(files) > 20
    for path in files:
        text = path.read_text(encoding="utf-8")
        for machine in ("/home/", "/root/", "/tmp/", "/Users/"):
            assert machine not in text, path
