"""End to end: the six notebooks by Papermill, skipping, resuming, by-hand runs, the report.

A tiny random ModernBERT and a folder of CSV files; the demo itself is in test_demo.py.
"""

import csv
import html.parser
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from lib import artifacts, code, params, rounds, runner, sharing, tables
from lib.__main__ import main
from lib.schema import STEPS
from lib.sources import SAMPLE_FILES

pytestmark = pytest.mark.slow

HOSTILE = (
    "Ужас <script>window.hacked=1</script><img src=x onerror=window.hacked=1> какой, "
    "никогда больше сюда не приду и вам не советую, очень грубые продавцы"
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """A folder as a user has it: labelled train and test files and an unlabelled one."""
    folder = tmp_path_factory.mktemp("data")
    gold = pd.read_csv(SAMPLE_FILES[0][0], keep_default_na=False).sample(frac=1, random_state=0)
    corpus = pd.read_csv(SAMPLE_FILES[1][0], keep_default_na=False)
    gold[:150].to_csv(folder / "posts_test.csv", index=False)
    gold[150:500].to_csv(folder / "posts_train.csv", index=False)
    corpus[:400].to_csv(folder / "audited.csv", index=False)
    hostile = pd.DataFrame({"text": [f"{HOSTILE} {i}" for i in range(3)], "label": ""})
    pd.concat([corpus[400:600].assign(label=""), hostile]).drop(columns="source").to_csv(
        folder / "plain.csv", index=False
    )
    return folder


@pytest.fixture(scope="module")
def overrides(tiny_checkpoint, data_dir) -> list[str]:
    return [
        f"base_model={tiny_checkpoint}",
        f"data_dir={data_dir}",
        "run=tiny",
        "device=cpu",
        "epochs=2",
        "evaluations_per_epoch=1",
        "pooling=cls",
        "shard_size=150",
        "pca_dimensions=8",
        "clusters=6",
        "min_purity=0.34",
        "min_confidence=0.34",
        "confident_share=1.0",
        "require_dominant=false",
        "umap_points=100",
        "04.umap_points=1000",  # all corpus texts: one of them is hostile
        "05.steps=6",
        "lambda_metric=[0.0, 0.5]",
        "evaluations=2",
        "bootstrap_samples=200",
        "learning_rate=1.0e-3",
    ]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, overrides) -> Path:
    outputs = tmp_path_factory.mktemp("outputs")
    loaded = params.load(code.PROJECT / "params" / "local.yaml", overrides)
    assert runner.run(loaded, outputs=outputs) == 0
    return outputs / "tiny"


def rerun(run_dir: Path, overrides: list[str], **options) -> None:
    loaded = params.load(code.PROJECT / "params" / "local.yaml", overrides)
    assert runner.run(loaded, outputs=run_dir.parent, **options) == 0


def finished_times(run_dir: Path) -> dict[str, str]:
    return {name: (run_dir / name / "manifest.json").stat().st_mtime_ns for name in STEPS}


def changed(before: dict, after: dict) -> list[str]:
    return [name[:2] for name in STEPS if before[name] != after[name]]


def test_every_step_leaves_its_artefacts(run_dir):
    for name in STEPS:
        assert artifacts.read_manifest(run_dir, name)["seconds"] > 0
        assert artifacts.read_metrics(run_dir, name)
        executed = nbformat.read(runner.executed_path(name, run_dir), as_version=4)
        assert not [
            o for c in executed.cells for o in c.get("outputs", []) if o.output_type == "error"
        ]
    gold = pd.read_parquet(run_dir / "01_gold_data" / "gold.parquet")
    assert (gold["split"] == "test").sum() == 150
    clusters = pd.read_parquet(run_dir / "04_cluster_purity" / "clusters.parquet")
    corpus = tables.read_corpus(run_dir / "01_gold_data" / "corpus")
    assert clusters["text_id"].tolist() == corpus["text_id"].tolist()
    assert clusters["purity"].between(1 / 3, 1).all()
    assert not list(run_dir.rglob(".*-*")), "temporary files are left"
    assert not list(run_dir.rglob("state"))


def test_audit_labels_never_reach_training(run_dir):
    """The held-out and trained pseudo-labels are the base model's predictions, not audit labels."""
    heldout = pd.read_parquet(run_dir / "05_metric_learning" / "heldout.parquet")
    clusters = pd.read_parquet(run_dir / "04_cluster_purity" / "clusters.parquet")
    merged = heldout.merge(clusters, on="text_id")
    assert (merged["label"] == merged["predicted"]).all()
    assert "audit_label" not in heldout.columns


def test_unchanged_steps_are_skipped(run_dir, overrides, caplog):
    before = finished_times(run_dir)
    caplog.set_level("INFO")
    rerun(run_dir, overrides)
    assert changed(before, finished_times(run_dir)) == []
    assert caplog.text.count("unchanged, skipped") == len(STEPS)


def test_a_changed_parameter_reruns_its_step_and_what_depends_on_it(run_dir, overrides):
    before = finished_times(run_dir)
    rerun(run_dir, [*overrides, "bootstrap_samples=300"])
    assert changed(before, finished_times(run_dir)) == ["06"]


def test_same_run_twice_gives_the_same_files(run_dir, overrides):
    """Forced again, every artefact of 03 to 05 has the same digest: nothing downstream reruns."""
    outputs = {n: artifacts.read_manifest(run_dir, n)["outputs"] for n in STEPS}
    rerun(run_dir, overrides, first="3", last="5", force=True)
    for name in ("03_embed_corpus", "04_cluster_purity", "05_metric_learning"):
        assert artifacts.read_manifest(run_dir, name)["outputs"] == outputs[name], name


def test_goes_on_after_a_kill(run_dir, overrides, tmp_path):
    """Killed while step 02 trains: 01 is kept, and training goes on from its last evaluation."""
    command = [
        sys.executable,
        "-m",
        "lib",
        "run",
        str(code.PROJECT / "params" / "local.yaml"),
        "--outputs",
        str(tmp_path),
        "--to",
        "02",
    ]
    long = [*overrides, "epochs=20"]
    arguments = [part for text in long for part in ("-p", text)]
    process = subprocess.Popen(command + arguments, stderr=subprocess.PIPE, text=True)
    state = tmp_path / "tiny" / "02_base_classifier" / "state" / "latest.pt"
    deadline = time.time() + 240
    while not state.exists() and time.time() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    subprocess.run(["pkill", "-9", "-P", str(process.pid)], check=False)
    process.kill()
    process.wait()
    assert state.exists()
    assert artifacts.read_manifest(tmp_path / "tiny", "02_base_classifier") is None
    first = (tmp_path / "tiny" / "01_gold_data" / "manifest.json").stat().st_mtime_ns
    loaded = params.load(code.PROJECT / "params" / "local.yaml", long)
    assert runner.run(loaded, last="02", outputs=tmp_path) == 0
    assert (tmp_path / "tiny" / "01_gold_data" / "manifest.json").stat().st_mtime_ns == first
    executed = nbformat.read(
        runner.executed_path("02_base_classifier", tmp_path / "tiny"), as_version=4
    )
    text = "".join(str(o) for c in executed.cells for o in c.get("outputs", []))
    assert re.search(r"going on from step \d+ of", text)


def test_a_notebook_runs_by_hand(run_dir):
    """As in JupyterLab: cells in order in notebooks/, only run_dir changed in the first cell."""
    import nbclient

    notebook = nbformat.read(code.notebook_path("06_final_eval"), as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = cell.source.replace('"../outputs/demo"', repr(str(run_dir)))
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(code.PROJECT / "notebooks")}}
    )
    client.execute()
    parameters = artifacts.read_manifest(run_dir, "06_final_eval")["parameters"]
    assert parameters["bootstrap_samples"] == 10_000


def test_a_sweep_takes_over_the_steps_of_a_run(run_dir, overrides, tmp_path, capsys):
    """One point is the run itself up to 05, the other one trains anew: 01 to 04 are done once."""
    file = tmp_path / "sweep.yaml"
    file.write_text(
        f"name: few\nbase: {code.PROJECT / 'params' / 'local.yaml'}\nmeasure: test\n"
        "grid:\n  lambda_metric: [[0.0, 0.5], 0.1]\n",
        encoding="utf-8",
    )
    given = [text for text in overrides if not text.startswith(("run=", "lambda_metric="))]
    arguments = ["sweep", str(file), "--outputs", str(run_dir.parent), "--jobs", "2"]
    arguments += [part for text in given for part in ("-p", text)]
    assert main(arguments) == 0
    folder = run_dir.parent / "few"
    first, second = (folder / f"lambda_metric-{name}" for name in ("0-0.5", "0.1"))
    for point, steps in ((first, list(STEPS)[:5]), (second, list(STEPS)[:4])):
        for name in steps:
            assert artifacts.read_manifest(point, name) == artifacts.read_manifest(run_dir, name)
    chosen = artifacts.read_manifest(second, "05_metric_learning")["parameters"]["lambda_metric"]
    assert chosen == [0.1]
    table = pd.read_csv(folder / "comparison.csv")
    gold = table[(table["dataset"] == "gold") & (table["split"] == "test")]
    gold = gold.set_index("lambda_metric")["macro_f1"]
    metrics = artifacts.read_metrics(run_dir, "06_final_eval")
    wanted = {"name": "macro_f1", "model": "final", "dataset": "gold", "split": "test"}
    (row,) = [row for row in metrics if wanted.items() <= row.items()]
    assert gold["0,0.5"] == pytest.approx(row["value"], abs=1e-6)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*/manifest.json")}
    assert main(arguments) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before} and len(before) == 10
    loaded = params.load(second / "params.yaml")
    assert all(runner.is_done(name, second, loaded.steps[name]) for name in list(STEPS)[:5])


def test_a_second_round(run_dir, overrides, tmp_path, monkeypatch, caplog):
    """The final model labels the corpus, 03 to 05 run again, and 06 judges the better round."""
    entry = rounds.entry

    def bad_base(number, *arguments):
        return entry(number, *arguments) | ({"value": 0.0} if number == 0 else {})

    monkeypatch.setattr(rounds, "entry", bad_base)  # so that a second round comes in any case
    (tmp_path / "tiny").mkdir()
    for name in list(STEPS)[:4]:
        sharing.share(name, run_dir, tmp_path / "tiny")
    # a final model like the base, so that all classes pass the filter again
    given = [*overrides, "rounds=2", "lambda_metric=[0.0]", "05.steps=2", "05.evaluations=1"]
    given += ["05.learning_rate=1.0e-4", "05.head_learning_rate=1.0e-4"]
    rerun(tmp_path / "tiny", given)
    first, second = tmp_path / "tiny", tmp_path / "tiny" / "round_2"
    assert artifacts.read_manifest(first, "05_metric_learning") == artifacts.read_manifest(
        second, "02_base_classifier"
    )
    banks = [list(folder.glob("03_embed_corpus/bank/*")) for folder in (first, second)]
    assert len(banks[0]) == len(banks[1]) > 0
    outputs = [artifacts.read_manifest(f, "03_embed_corpus")["outputs"] for f in (first, second)]
    assert outputs[0] != outputs[1], "the second round has the first one's vectors"
    heldout = [
        set(pd.read_parquet(folder / "05_metric_learning" / "heldout.parquet")["text_id"])
        for folder in (first, second)
    ]
    clusters = pd.read_parquet(second / "04_cluster_purity" / "clusters.parquet")
    kept = set(clusters[clusters["kept"]]["text_id"])
    assert heldout[0] & kept <= heldout[1], "held out in round 1, trained on in round 2"
    found = artifacts.read_rounds(first)
    values = [row["value"] for row in found["rounds"]]
    assert len(values) == 3 and found["best"] == (2 if values[2] > values[1] else 1)
    inputs = artifacts.read_manifest(first, "06_final_eval")["inputs"]
    best = artifacts.read_manifest(artifacts.round_dir(first, found["best"]), "05_metric_learning")
    read = artifacts.outputs_read("06_final_eval", "05_metric_learning", best)
    assert inputs["05_metric_learning"] == artifacts.digest(read)
    assert "model/model.safetensors" in read and "heldout.parquet" in read
    assert "<h2>Rounds</h2>" in (first / "report" / "index.html").read_text(encoding="utf-8")
    caplog.set_level("INFO")
    rerun(first, given)
    assert caplog.text.count("unchanged, skipped") == len(STEPS) + 3


class _Page(html.parser.HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers, self.addresses, self.scripts = [], [], []
        self.in_script = False

    def handle_starttag(self, tag, attrs):
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        loads = tag in ("script", "img", "link", "iframe", "source")
        self.addresses += [v for n, v in attrs if loads and n in ("src", "href") and v]
        self.in_script = tag == "script"

    def handle_endtag(self, tag):
        self.in_script = False

    def handle_data(self, data):
        if self.in_script:
            self.scripts.append(data)


def test_report_opens_from_disk_and_texts_stay_texts(run_dir):
    pages = sorted((run_dir / "report").glob("*.html"))
    assert [page.stem for page in pages] == [*STEPS, "explorer", "index"]
    shown = ""
    for file in pages:
        content = file.read_text(encoding="utf-8")
        shown += content
        page = _Page()
        page.feed(content)
        assert not page.handlers, file
        assert not [a for a in page.addresses if re.match(r"(https?:)?//", a)], file
        assert not [s for s in page.scripts if re.match(r"\s*window\.hacked", s)], file
    assert "window.hacked=1" in shown, "the hostile text should be shown somewhere"
    index = (run_dir / "report" / "index.html").read_text(encoding="utf-8")
    assert all(f"href='{name}.html'" in index for name in STEPS)
    map_page = (run_dir / "report" / "04_cluster_purity.html").read_text("utf-8")
    assert "data-figure=" in map_page and "src='plotly.min.js'" in map_page


def test_fewer_texts_than_clusters(run_dir, overrides, tmp_path, capsys):
    """The message names parameter and counts, the status is 2, nothing half-written stays."""
    import shutil

    copy = tmp_path / "tiny"
    shutil.copytree(run_dir, copy)
    arguments = [part for text in [*overrides, "clusters=5000"] for part in ("-p", text)]
    status = main(
        [
            "run",
            str(code.PROJECT / "params" / "local.yaml"),
            "--outputs",
            str(tmp_path),
            "--only",
            "04",
            *arguments,
        ]
    )
    message = capsys.readouterr().err
    assert status == 2
    assert "04_cluster_purity.clusters: 5000" in message and "Traceback" not in message
    assert not (copy / "04_cluster_purity").exists()
    assert not list((copy / "notebooks").glob("*running*"))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (["плохо", "awful", "x"], "unknown label 'awful'"),
        (["   ", "neutral", "x"], "the text is empty"),
    ],
)
def test_bad_rows_end_with_status_2_and_leave_nothing(
    row, expected, data_dir, overrides, tmp_path, capsys
):
    folder = tmp_path / "data"
    folder.mkdir()
    with (folder / "a_train.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "label", "source"], ["хорошо", "positive", "x"], row])
    arguments = [p for t in [*overrides, f"data_dir={folder}"] for p in ("-p", t)]
    status = main(
        [
            "run",
            str(code.PROJECT / "params" / "local.yaml"),
            "--outputs",
            str(tmp_path / "out"),
            *arguments,
        ]
    )
    message = capsys.readouterr().err
    assert status == 2
    assert expected in message and "a_train.csv, line 3" in message
    assert not list((tmp_path / "out").rglob("*.parquet"))
    assert not (tmp_path / "out" / "tiny" / "01_gold_data").exists()


# Papermill does not work while a browser is open: what needs one comes last, see browser.py


@pytest.mark.browser
@pytest.mark.parametrize("name", ["index", *STEPS])
def test_the_report_in_a_browser(run_dir, browser_page, name):
    """No error, no request, all figures drawn, the hostile text shown and not run."""
    page = browser_page.open(run_dir / "report" / f"{name}.html")
    browser_page.check()
    interactive = {"04_cluster_purity", "06_final_eval"}
    assert browser_page.drawn() == [True] * (name in interactive)
    assert page.locator("img").count() >= 1
    if name == "04_cluster_purity":
        hovers = page.evaluate("document.querySelector('.plotly-graph-div').data.map(t => t.text)")
        places = [
            (curve, point)
            for curve, texts in enumerate(hovers)
            for point, text in enumerate(texts)
            if "hacked" in text
        ]
        assert places
        assert "<script>window.hacked=1</script>" in browser_page.hover(*places[0])
        browser_page.check()
