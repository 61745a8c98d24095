"""What holds for the repository as a whole: pins, rooms, notebooks, the sample corpus."""

import ast
import json
import re
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lib.data.sources import SAMPLE_DIR
from lib.parameters import APPENDICES, CHAPTERS, STEPS

PROJECT = Path(__file__).parent.parent
NOTEBOOKS = [*CHAPTERS, "explore_clusters"]


def notebook(name):
    text = (PROJECT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
    return json.loads(text)["cells"]


def sources(name, kind):
    return ["".join(cell["source"]) for cell in notebook(name) if cell["cell_type"] == kind]


def test_environment_and_pyproject_pin_the_same():
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text(encoding="utf-8"))
    pins = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert sorted(pip) == sorted([*pins, "-e ."])
    assert "torch==2.13.0" in pins
    for pin in pins:
        assert re.fullmatch(r"[A-Za-z0-9-]+==\d+(\.\d+)+", pin), f"{pin} is no exact pin"
    assert f"python={project['requires-python'].removeprefix('>=')}" in environment["dependencies"]


def test_the_readme_is_short():
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150
    for path in re.findall(r"\]\(([^)#]+)\)", readme):
        assert path.startswith("http") or (PROJECT / path).exists(), path


def test_there_is_a_notebook_for_every_chapter():
    found = {path.stem for path in (PROJECT / "notebooks").glob("*.ipynb")}
    assert found == set(NOTEBOOKS)


@pytest.mark.parametrize("path", sorted((PROJECT / "notebooks").rglob("*.ipynb")), ids=str)
def test_notebooks_are_stripped_and_narrow(path):
    if ".ipynb_checkpoints" in path.parts:
        return
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            assert max(map(len, "".join(cell["source"]).splitlines()), default=0) <= 100


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_begins_with_its_result_and_ends_with_what_comes_next(name):
    cells = notebook(name)
    assert "".join(cells[0]["source"]).startswith("# ")
    tags = [tag for cell in cells for tag in cell["metadata"].get("tags", [])]
    assert sorted(tags) == ["parameters", "result"]
    assert all("tags" in cell["metadata"] for cell in cells[1:3])
    code = "\n".join(sources(name, "code"))
    assert f'from_cell("{name}"' in code and f'open_step("{name}"' in code
    assert code.count("step.finish(") == 1
    assert cells[-1]["cell_type"] == "markdown"


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_figure_has_a_sentence_on_how_to_read_it(name):
    cells = notebook(name)
    for place, cell in enumerate(cells):
        if cell["cell_type"] == "code" and "figure.savefig(" in "".join(cell["source"]):
            around = cells[place - 1 : place] + cells[place + 1 : place + 2]
            prose = ["".join(c["source"]) for c in around if c["cell_type"] == "markdown"]
            assert any("How to read it" in text for text in prose), "".join(cell["source"])


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_define_no_long_functions(name):
    for source in sources(name, "code"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.end_lineno - node.lineno < 10, node.name


def test_every_room_says_what_it_is():
    for folder in (PROJECT / "src" / "lib").rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(folder.read_text(encoding="utf-8"))), folder


def test_no_import_goes_round_in_circles():
    """Between modules, inside functions too; between rooms import-linter says the direction."""
    import grimp

    graph = grimp.build_graph("lib", cache_dir=None)
    for module in graph.modules:
        assert module not in graph.find_upstream_modules(module), module


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
    assert min(labels.values()) >= 180 and labels.total() >= 600
    assert len(sample["corpus"]) >= 1800
    for frame in sample.values():
        assert frame["source"].nunique() >= 6
        assert frame["text"].str.strip().ne("").all()


def test_the_sample_is_not_made_from_templates(sample):
    """No text is there twice, and no two texts share half of their word 3-grams."""
    texts = [text for frame in sample.values() for text in frame["text"]]
    keys = Counter(" ".join(plain(text)) or text for text in texts)
    assert [key for key, count in keys.items() if count > 1] == []
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


def test_no_paths_of_one_machine():
    kinds = {".py", ".ipynb", ".yaml", ".yml", ".csv", ".css", ".js", ".j2", ".md", ".toml"}
    folders = [PROJECT / name for name in ("src", "notebooks", "params", "tests/benchmarks")]
    found = [PROJECT / "README.md", PROJECT / "Makefile"]
    found += [path for folder in folders for path in folder.rglob("*") if path.suffix in kinds]
    assert len(found) > 60 and len(STEPS) + len(APPENDICES) == len(CHAPTERS)
    for path in found:
        text = path.read_text(encoding="utf-8")
        for machine in ("/home/", "/root/", "/tmp/", "/Users/"):
            assert machine not in text, path
