"""End to end: the six notebooks by Papermill, what reruns, what never does, the report.

A tiny random ModernBERT and a folder of CSV files; the demo itself is in test_demo.py. The first
run is Papermill's; to see what is made again, the code of the notebooks runs in this process.
"""

import csv
import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import papermill
import psutil
import pytest

import hostile
from lib import artefacts, files
from lib.__main__ import main
from lib.data import tables
from lib.data.cleaning import clean
from lib.data.sources import SAMPLE_FILES
from lib.parameters import APPENDICES, STEPS
from lib.runs import fingerprints, parameter_files, parts, runner, steps
from lib.training.trainer import WHOLE

pytestmark = pytest.mark.slow

FILE = fingerprints.PROJECT / "params" / "local.yaml"
NOTEBOOKS = fingerprints.PROJECT / "notebooks"
BANNER = '<p class="note banner">'


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """A folder as a user has it: labelled train and test files, an unlabelled one, hostile ones."""
    folder = tmp_path_factory.mktemp("data")
    gold = pd.read_csv(SAMPLE_FILES[0][0], keep_default_na=False).sample(frac=1, random_state=0)
    corpus = pd.read_csv(SAMPLE_FILES[1][0], keep_default_na=False)
    gold[:150].to_csv(folder / "posts_test.csv", index=False)
    gold[150:500].to_csv(folder / "posts_train.csv", index=False)
    corpus[:400].to_csv(folder / "audited.csv", index=False)
    corpus[400:600].to_csv(folder / "plain.csv", index=False, columns=["text"])
    with (folder / "hostile_test.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label", "source"], extrasaction="ignore")
        writer.writeheader()
        for number, row in enumerate(gold[500:560].to_dict("records")):
            nasty = hostile.BYTES[number % len(hostile.BYTES)]
            row |= {"text": f"{row['text']} {nasty}", "source": nasty}
            writer.writerow(row)
    with (folder / f"{hostile.NAME}.jsonl").open("w", encoding="ascii") as file:
        for number, text in enumerate(hostile_texts()):
            nasty = hostile.FRAGMENTS[number % len(hostile.FRAGMENTS)]
            of = {"source": nasty} if number % 5 else {}
            print(json.dumps({"text": text, **of}), file=file)
    return folder


def hostile_texts() -> list[str]:
    """Each fragment in front of several texts that are Russian enough for the language check."""
    corpus = pd.read_csv(SAMPLE_FILES[1][0], keep_default_na=False)["text"]
    pairs = zip(corpus[600:800], corpus[800:1000], strict=True)
    nasty = itertools.cycle(hostile.FRAGMENTS)
    return [f"{f} {one} {other}" for f, (one, other) in zip(nasty, pairs, strict=False)]


@pytest.fixture(scope="module")
def overrides(tiny_checkpoint, data_dir) -> list[str]:
    return [
        f"base_model={tiny_checkpoint}",
        f"data_dir={data_dir}",
        "run=tiny",
        "device=cpu",
        "epochs=6",
        "evaluations_per_epoch=1",
        "pooling=cls",
        "freeze_word_embeddings=false",
        "linear_probe=true",  # and the space of the clusters is the pretrained encoder's
        "shard_size=150",
        "pca_dimensions=8",
        "clusters=6",
        "min_purity=0.0",
        "min_confidence=0.34",
        "best_share=1.0",
        "umap_points=100",
        "04.umap_points=1000",  # all corpus texts: one of them is hostile
        "05.steps=6",
        "lambda_metric=[0.0, 0.5]",
        "evaluations=2",
        "perturbation_texts=20",
        "learning_rate=2.0e-3",
    ]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, overrides) -> Path:
    outputs = tmp_path_factory.mktemp("outputs")
    loaded = parameter_files.load(FILE, overrides)
    assert runner.run(loaded, outputs=outputs, appendix=True) == 0
    return outputs / "tiny"


def rerun(run_dir: Path, overrides: list[str], **options) -> list[str]:
    """Run again; which steps were executed."""
    before = manifests(run_dir)
    assert runner.run(parameter_files.load(FILE, overrides), outputs=run_dir.parent, **options) == 0
    after = manifests(run_dir)
    return [step[:2] for step in STEPS if before.get(step) != after.get(step)]


def manifests(run_dir: Path) -> dict[str, int]:
    paths = {step: run_dir / step / "manifest.json" for step in STEPS}
    return {step: path.stat().st_mtime_ns for step, path in paths.items() if path.exists()}


def identities(folder: Path) -> dict[str, int]:
    """File -> inode: the same one if the file was kept, whatever folder it is linked into."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_ino for path in found}


@pytest.fixture
def no_kernel(monkeypatch) -> None:
    """Steps are executed in this process, which has imported all that a kernel would import."""

    def execute(source: str, target: str, parameters: dict, **_) -> None:
        notebook = nbformat.read(source, as_version=4)
        execute_cells(notebook, parameters)
        nbformat.write(notebook, target)

    monkeypatch.setattr(papermill, "execute_notebook", execute)


def execute_cells(notebook: nbformat.NotebookNode, parameters: dict, last: int | None = None):
    """Execute the first code cells of a notebook, or all of them."""
    variables: dict = {}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code[:last]:
        exec(cell.source, variables)
        if "parameters" in cell.metadata.get("tags", []):
            variables |= parameters
    plt.close("all")


@pytest.fixture
def copied(run_dir, tmp_path) -> Path:
    """The run in a folder of its own, where a test may change it."""
    files.link_tree(run_dir, tmp_path / "outputs" / "tiny")
    return tmp_path / "outputs" / "tiny"


def test_the_second_opinion_is_shown(run_dir):
    opinions = artefacts.executed_notebook(run_dir, "03_embed_corpus").read_text(encoding="utf-8")
    assert all(f"<th>{name}</th>" in opinions for name in ("base", "probe", "mean"))


def test_every_step_leaves_its_artefacts(run_dir):
    for name in [*STEPS, *APPENDICES]:
        manifest = artefacts.read_manifest(run_dir, name)
        assert manifest["seconds"] > 0 and artefacts.read_metrics(run_dir, name)
        executed = nbformat.read(artefacts.executed_notebook(run_dir, name), as_version=4)
        outputs = [(c, o) for c in executed.cells for o in c.get("outputs", [])]
        assert not [o for _, o in outputs if o.output_type == "error"]
        (result,) = [o for c, o in outputs if "result" in c.metadata.get("tags", [])]
        lines = manifest["summary"].splitlines()
        assert len(lines) == 2 and all(line in result.data["text/markdown"] for line in lines)
    gold = pd.read_parquet(run_dir / "01_gold_data" / "tables" / "gold.parquet")
    assert (gold["split"] == "test").sum() == 210
    clusters = pd.read_parquet(run_dir / "04_cluster_purity" / "clusters.parquet")
    corpus = tables.read_corpus(run_dir / "01_gold_data" / "tables" / "corpus")
    assert clusters["text_id"].tolist() == corpus["text_id"].tolist()
    assert clusters["purity"].between(1 / 3, 1).all()
    leftovers = [p.name for p in run_dir.rglob(".*") if p.name not in (".parts", ".new", ".lock")]
    assert leftovers == [], "temporary files are left"
    assert not list(run_dir.rglob("checkpoint-*"))


def test_hostile_texts_lose_nothing_and_are_no_formulas(run_dir):
    corpus = tables.read_corpus(run_dir / "01_gold_data" / "tables" / "corpus")
    assert {clean(text) for text in hostile_texts()} <= set(corpus["text"])
    gold = pd.read_parquet(run_dir / "01_gold_data" / "tables" / "gold.parquet")
    assert {clean(nasty) for nasty in hostile.BYTES} <= set(gold["source"])
    assert clean(hostile.NAME) in set(corpus["source"])
    written = [*run_dir.rglob("*.csv")]
    assert {"counts.csv", "likely_annotation_errors.csv"} <= {path.name for path in written}
    for path in written:
        for row in csv.reader(path.open(encoding="utf-8-sig", newline="")):
            for cell in row:
                assert not re.search(files.FORMULA, cell) or float(cell) < 0, f"{path}: {cell}"


def test_audit_labels_never_reach_training(run_dir):
    """The held-out and trained pseudo-labels are the base model's predictions, not audit labels."""
    folder = run_dir / "05_metric_learning" / "training_texts"
    clusters = pd.read_parquet(run_dir / "04_cluster_purity" / "clusters.parquet")
    parts = [pd.read_parquet(folder / f"{name}.parquet") for name in ("pseudo", "heldout")]
    assert not set(parts[0]["text_id"]) & set(parts[1]["text_id"])
    for part in parts:
        merged = part.merge(clusters, on="text_id")
        assert len(merged) == len(part) > 0
        assert (merged["label"] == merged["predicted"]).all() and merged["kept"].all()
        assert "audit_label" not in part.columns


def test_unchanged_steps_are_skipped(run_dir, overrides):
    assert rerun(run_dir, overrides) == []


def test_another_threshold_repeats_no_clustering(copied, overrides, no_kernel):
    """Nor the map; and a report of old and new chapters says so."""
    before = identities(copied / "04_cluster_purity")
    given = [*overrides, "min_confidence=0.45"]
    assert rerun(copied, given, only="04") == ["04"]
    after = identities(copied / "04_cluster_purity")
    parts = ("kmeans/", "map/", "words/")
    kept = {name for name in before if name.startswith(parts)}
    assert len(kept) >= 5 and all(after[name] == before[name] for name in kept)
    assert after["clusters.parquet"] != before["clusters.parquet"]
    front = (copied / "report" / "index.html").read_text(encoding="utf-8")
    chapter = (copied / "report" / "05_metric_learning.html").read_text(encoding="utf-8")
    assert BANNER in chapter and "04_cluster_purity/clusters.parquet" in chapter
    assert BANNER in front
    trained = identities(copied / "02_base_classifier" / "model")
    assert rerun(copied, given) == ["05", "06"]
    assert identities(copied / "02_base_classifier" / "model") == trained
    for page in (copied / "report").glob("0*.html"):
        assert BANNER not in page.read_text(encoding="utf-8"), page.name


def test_other_pca_dimensions_do_not_embed_again(copied, overrides, no_kernel):
    before = identities(copied / "03_embed_corpus")
    assert rerun(copied, [*overrides, "pca_dimensions=6"], only="03") == ["03"]
    after = identities(copied / "03_embed_corpus")
    same = {name for name in before if name.startswith("embeddings/")}
    assert same and all(after[name] == before[name] for name in same)
    assert after["pca/reduced.npy"] != before["pca/reduced.npy"]


def test_an_error_deletes_nothing(copied, overrides, no_kernel, capsys):
    before = identities(copied)
    arguments = [part for text in [*overrides, "clusters=5000"] for part in ("-p", text)]
    command = ["run", str(FILE), "--outputs", str(copied.parent), "--only", "04", *arguments]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert "04_cluster_purity.clusters: 5000" in message and "Traceback" not in message
    after = identities(copied)
    assert all(after[name] == inode for name, inode in before.items() if ".lock" not in name)


def test_looking_never_destroys(copied):
    """The first cells of a finished step by hand, as in JupyterLab, and all of another one."""
    manifest = artefacts.read_manifest(copied, "02_base_classifier")
    before = identities(copied)
    for step, cells in (("02_base_classifier", 4), ("01_gold_data", None)):
        notebook = nbformat.read(fingerprints.notebook_path(step), as_version=4)
        changed = {"epochs": 1, "base_model": manifest["parameters"]["base_model"]}
        execute_cells(notebook, {"run_dir": str(copied)} | changed, cells)
        after = identities(copied)
        changed = {n.split("/")[0] for n in before if after.get(n) != before[n]}
        assert changed <= ({"01_gold_data"} if cells is None else set())
    assert (copied / ".new" / "02_base_classifier" / "model").is_dir()
    assert artefacts.read_manifest(copied, "01_gold_data")["parameters"]["sources"] == ["sample"]


def test_plain_papermill_works(copied, tmp_path):
    path = tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(NOTEBOOKS / "04_cluster_purity.ipynb")]
    command += [str(path), "-k", "python3", "-p", "run_dir", str(copied), "-p", "clusters", "6"]
    command += ["-p", "min_purity", "0.0", "-p", "min_confidence", "0.35", "--no-progress-bar"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    parameters = artefacts.read_manifest(copied, "04_cluster_purity")["parameters"]
    assert (parameters["clusters"], parameters["min_confidence"]) == (6, 0.35)
    assert path.exists()


def test_forced_steps_give_the_same_files(copied, overrides, no_kernel):
    """Forced again, every artefact of 03 to 05 has the same digest: nothing downstream reruns."""
    chosen = ["03_embed_corpus", "04_cluster_purity", "05_metric_learning"]
    before = {name: outputs(copied, name) for name in chosen}
    rerun(copied, overrides, first="3", last="5", force=True)
    assert {name: outputs(copied, name) for name in chosen} == before
    assert rerun(copied, overrides) == []


def test_goes_on_after_kills(run_dir, overrides, no_kernel, tmp_path, capsys):
    """The kernel is killed while step 02 trains, then the runner; nobody sees it in the end."""
    copy_step_01(run_dir, tmp_path / "tiny")
    command = [sys.executable, "-m", "lib", "run", str(FILE), "--outputs", str(tmp_path)]
    command += ["--to", "02", *(part for text in overrides for part in ("-p", text))]
    for victim, awaited in (("kernel", f"**/{WHOLE}"), ("runner", "**/*.running.ipynb")):
        process = psutil.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.time() + 600
        while not [*(tmp_path / "tiny").glob(awaited)]:
            assert process.poll() is None and time.time() < deadline, process.stderr.read()
            time.sleep(0.01)
        for killed in process.children() if victim == "kernel" else [process]:
            killed.kill()
        assert ("memory is full" in process.communicate()[1]) == (victim == "kernel")
    assert artefacts.read_manifest(tmp_path / "tiny", "02_base_classifier") is None
    capsys.readouterr()
    assert rerun(tmp_path / "tiny", overrides, last="02") == ["02"]
    assert "going on from step" in capsys.readouterr().out
    ours, theirs = (outputs(each, "02_base_classifier") for each in (tmp_path / "tiny", run_dir))
    assert ours == theirs


def outputs(run_dir: Path, step: str) -> dict[str, str]:
    """Digests of what a step wrote, but pictures."""
    found = artefacts.read_manifest(run_dir, step)["outputs"]
    return {name: digest for name, digest in found.items() if not name.endswith(".png")}


TOGETHER = """
import sys
from lib.__main__ import main
for step in ("02", "03", "05"):
    assert main(["step", step, *sys.argv[1:]]) == 0
"""


def test_two_processes_share_the_long_parts(copied, overrides, tmp_path):
    """By torchrun; the notebooks' functions then find them made."""
    job = tmp_path / "together.py"
    job.write_text(TOGETHER)
    made = {"02": "model", "03": "embeddings", "05": "candidates/0.5"}
    made = {parameter_files.find_step(step): part for step, part in made.items()}
    for name in made:
        steps.force(name, copied)  # the copied ones do not count
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(job)]
    command += [str(FILE), "--outputs", str(copied.parent)]
    command += [part for text in overrides for part in ("-p", text)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("2 processes") == 3
    loaded = parameter_files.load(FILE, overrides)
    _, params = runner.prepare(loaded, list(made), copied.parent)
    for name, part in made.items():
        before = identities(copied / ".new" / name / part)
        assert before and before != identities(copied / name / part)
        parts.TOGETHER[name](steps.open_step(name, copied, params.steps[name]))
        assert identities(copied / ".new" / name / part) == before, f"{name} was made again"


def copy_step_01(run_dir: Path, target: Path) -> None:
    """A run of which the first step is done."""
    files.link_tree(run_dir / "01_gold_data", target / "01_gold_data")
    files.link_tree(run_dir / "notebooks", target / "notebooks")


@pytest.mark.parametrize("row", [["плохо", "awful", "x"]], ids=["unknown label"])
def test_bad_rows_end_with_status_2(row, overrides, no_kernel, tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    with (folder / "a_train.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "label", "source"], ["хорошо", "positive", "x"], row])
    given = [*overrides, f"data_dir={folder}"]
    arguments = [part for text in given for part in ("-p", text)]
    assert main(["run", str(FILE), "--outputs", str(tmp_path / "out"), *arguments]) == 2
    message = capsys.readouterr().err
    assert "unknown label 'awful'" in message and "a_train.csv, line 3" in message
    assert not list((tmp_path / "out").rglob("gold.parquet"))


# Papermill does not work while a browser is open: what needs one comes last, see browser.py


@pytest.mark.browser
@pytest.mark.parametrize("name", ["index", *STEPS, "explorer"])
def test_the_report_in_a_browser(run_dir, browser_page, name):
    """No error, no request, all figures drawn, hostile texts shown and not run."""
    page = browser_page.open(run_dir / "report" / f"{name}.html")
    browser_page.check()
    interactive = {"04_cluster_purity", "06_final_eval", "explorer"}
    assert browser_page.drawn() == [True] * (name in interactive)
    assert page.locator("img").count() >= (name != "explorer")
    assert page.locator("img[src=x], [onerror], [onmouseover], a[href^=javascript]").count() == 0
    if name == "01_gold_data":
        shown = page.inner_text("main")
        named = [hostile.NAME, *hostile.FRAGMENTS]
        assert not [nasty for nasty in map(clean, named) if nasty not in shown]
    if name == "04_cluster_purity":
        hovers = page.evaluate("document.querySelector('.plotly-graph-div').data.map(t => t.text)")
        texts = [text for trace in hovers for text in trace]
        assert any("&lt;script&gt;" in text for text in texts)
        assert not re.search(r"<(?!br>)|\$", "".join(texts))
        browser_page.point(0, 0)
        page.wait_for_selector(".hoverlayer .hovertext")
        browser_page.check()
