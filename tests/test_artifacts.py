import json
import re
import shutil

import pytest

from lib import artifacts, code, params, schema
from lib.errors import UserError

SAMPLE = schema.GoldDataParams(sources=["sample"])
GOLD, BASE = "01_gold_data", "02_base_classifier"


def complete(name, run_dir, p, files=None):
    """Do a step: open it, write its files, finish it."""
    step = artifacts.open_step(name, run_dir, p)
    for file, content in (files or {"gold.parquet": "данные"}).items():
        step.path(file).write_text(content, encoding="utf-8")
    return step.finish([{"name": "texts", "value": 1}])


@pytest.fixture
def base(tmp_path):
    """Parameters of step 02 with a base model whose files belong to the test."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights.bin").write_bytes(b"1")
    return schema.BaseClassifierParams(base_model=str(model))


def use_copied_code(monkeypatch, root, module=None, old="", new=""):
    """Let fingerprints see a copy of the project in which `old` became `new` in one module."""
    shutil.copytree(code.PROJECT / "notebooks", root / "notebooks")
    shutil.copytree(code.PACKAGE, root / "src" / "lib")
    if module:
        path = root / "src" / "lib" / f"{module}.py"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(code, "PROJECT", root)
    monkeypatch.setattr(code, "PACKAGE", root / "src" / "lib")


# --- files -----------------------------------------------------------------------------------


def test_atomic_replaces_on_success(tmp_path):
    path = tmp_path / "new folder" / "file.txt"
    for content in ("first", "second"):
        with artifacts.atomic(path) as temporary:
            assert temporary.parent == path.parent  # else the replacing would not be atomic
            assert temporary.suffix == ".txt"
            temporary.write_text(content)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, "old"])
def test_atomic_leaves_nothing_on_failure(tmp_path, error, before):
    path = tmp_path / "file.txt"
    if before:
        path.write_text(before)
    with pytest.raises(error), artifacts.atomic(path) as temporary:
        temporary.write_text("half")
        raise error
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == (
        [("file.txt", before)] if before else []
    )


def test_json_round_trips_in_readable_unicode(tmp_path):
    value = [{"имя": "ё", "b": 0.1, "a": [None, True, 10**12]}]
    artifacts.write_json(tmp_path / "x.json", value)
    assert artifacts.read_json(tmp_path / "x.json") == value
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert "ё" in text
    assert text.index('"b"') < text.index('"a"')


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_nan_and_keeps_the_old_file(tmp_path, number):
    artifacts.write_json(tmp_path / "x.json", {"value": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.write_json(tmp_path / "x.json", {"value": number})
    assert artifacts.read_json(tmp_path / "x.json") == {"value": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_digest_ignores_the_order_of_keys_only():
    assert artifacts.digest({"a": 1, "b": [1, 2]}) == artifacts.digest({"b": [1, 2], "a": 1})
    assert artifacts.digest({"a": [1, 2]}) != artifacts.digest({"a": [2, 1]})
    assert artifacts.digest({"a": 1}) != artifacts.digest({"a": "1"})


def test_file_digest_is_the_start_of_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")  # the test vector of FIPS 180-2
    assert artifacts.file_digest(tmp_path / "x") == "ba7816bf8f01cfea"


# --- a step's life ---------------------------------------------------------------------------


def test_every_step_reads_only_earlier_steps():
    order = list(params.STEPS)
    assert list(artifacts.UPSTREAM) == order
    for step, upstream in artifacts.UPSTREAM.items():
        assert all(order.index(up) < order.index(step) for up in upstream)


def test_open_step_refuses_a_missing_upstream(tmp_path, base):
    with pytest.raises(UserError, match=rf"{BASE} reads .* {GOLD}, which is not complete"):
        artifacts.open_step(BASE, tmp_path, base)
    artifacts.open_step(GOLD, tmp_path, SAMPLE).path("gold.parquet").touch()
    with pytest.raises(UserError, match="not complete"):  # begun is not complete
        artifacts.open_step(BASE, tmp_path, base)
    assert not (tmp_path / BASE).exists()


def test_missing_input_names_the_file_and_the_step(tmp_path, base):
    complete(GOLD, tmp_path, SAMPLE)
    step = artifacts.open_step(BASE, tmp_path, base)
    assert step.input(GOLD, "gold.parquet").read_text(encoding="utf-8") == "данные"
    (tmp_path / GOLD / "gold.parquet").unlink()
    with pytest.raises(UserError, match=rf"{BASE} needs .*gold\.parquet.*run {GOLD} again"):
        step.input(GOLD, "gold.parquet")


def test_a_step_reads_only_what_its_fingerprint_covers(tmp_path, base):
    complete(GOLD, tmp_path, SAMPLE, {"data_card.md": "a"})
    step = artifacts.open_step(BASE, tmp_path, base)
    with pytest.raises(ValueError, match=r"data_card\.md of 01_gold_data is missing in .*UPSTREAM"):
        step.input(GOLD, "data_card.md")


@pytest.mark.parametrize("name", params.STEPS)
def test_a_notebook_reads_what_upstream_says(name):
    notebook = json.loads(code.notebook_path(name).read_text(encoding="utf-8"))
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    source = "\n".join("".join(cell["source"]) for cell in cells)
    read = set(re.findall(r'step\.input\("(\w+)", "([\w.]+)"\)', source))
    assert len(re.findall(r'step\.input\("\w+", "', source)) == source.count("step.input(")
    assert read == {(up, file) for up, files in artifacts.UPSTREAM[name].items() for file in files}


def test_finish_writes_the_outputs_digests(tmp_path):
    manifest = complete(GOLD, tmp_path, SAMPLE, {"a.txt": "abc", "corpus/part.txt": "б"})
    assert manifest == artifacts.read_manifest(tmp_path, GOLD)
    assert set(manifest["outputs"]) == {"a.txt", "corpus/part.txt", "metrics.json"}
    assert manifest["outputs"]["a.txt"] == "ba7816bf8f01cfea"
    for file, digest in manifest["outputs"].items():
        assert artifacts.file_digest(tmp_path / GOLD / file) == digest
    assert manifest["parameters"]["sources"] == ["sample"]
    assert manifest["seconds"] >= 0
    assert manifest["peak_memory_mib"] > 10
    assert artifacts.read_metrics(tmp_path, GOLD) == [{"name": "texts", "value": 1}]
    assert {p.name for p in (tmp_path / GOLD).iterdir()} == {
        "a.txt",
        "corpus",
        "metrics.json",
        "manifest.json",
    }


def test_the_commit_is_that_of_the_start_and_no_reason_to_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "commit", lambda: "0123456789ab")
    step = artifacts.open_step(GOLD, tmp_path, SAMPLE)
    monkeypatch.setattr(code, "commit", lambda: "ba9876543210")  # the checkout moves on meanwhile
    assert step.finish([])["commit"] == "0123456789ab"
    assert artifacts.is_current(GOLD, tmp_path, SAMPLE)
    assert "commit" not in artifacts.compute_fingerprint(GOLD, tmp_path, SAMPLE)


def test_the_manifest_is_written_last(tmp_path, monkeypatch):
    written = []
    write = artifacts.write_json
    monkeypatch.setattr(
        artifacts, "write_json", lambda path, value: (written.append(path.name), write(path, value))
    )
    complete(GOLD, tmp_path, SAMPLE)
    assert written == ["partial.json", "metrics.json", "manifest.json"]


def test_a_step_that_fails_to_finish_is_not_complete(tmp_path):
    step = artifacts.open_step(GOLD, tmp_path, SAMPLE)
    with pytest.raises(ValueError, match="JSON"):
        step.finish([{"name": "f1", "value": float("nan")}])
    assert artifacts.read_manifest(tmp_path, GOLD) is None
    assert not artifacts.is_current(GOLD, tmp_path, SAMPLE)


def test_partial_work_with_the_same_fingerprint_stays(tmp_path):
    artifacts.open_step(GOLD, tmp_path, SAMPLE).path("shard-0").write_text("half")
    step = artifacts.open_step(GOLD, tmp_path, SAMPLE)
    assert step.path("shard-0").read_text() == "half"


def test_what_a_killed_process_was_writing_goes(tmp_path):
    step = artifacts.open_step(GOLD, tmp_path, SAMPLE)
    step.path("bank/shard-0.npy").write_text("whole")
    writing = artifacts.atomic(step.path("bank/shard-1.npy"))
    writing.__enter__().write_text("half")  # and never left, as after a kill
    artifacts.open_step(GOLD, tmp_path, SAMPLE)
    assert [p.name for p in (tmp_path / GOLD / "bank").iterdir()] == ["shard-0.npy"]


def test_partial_work_with_another_fingerprint_goes(tmp_path):
    artifacts.open_step(GOLD, tmp_path, SAMPLE).path("sub/shard-0").write_text("half")
    artifacts.open_step(GOLD, tmp_path, SAMPLE.model_copy(update={"seed": 1}))
    assert [p.name for p in (tmp_path / GOLD).iterdir()] == ["partial.json"]


def test_reopening_a_complete_step_starts_from_nothing(tmp_path):
    complete(GOLD, tmp_path, SAMPLE)
    artifacts.open_step(GOLD, tmp_path, SAMPLE)
    assert artifacts.read_manifest(tmp_path, GOLD) is None
    assert [p.name for p in (tmp_path / GOLD).iterdir()] == ["partial.json"]


def test_discard_partial_spares_complete_steps(tmp_path):
    complete(GOLD, tmp_path, SAMPLE)
    artifacts.discard_partial(GOLD, tmp_path)
    assert artifacts.read_manifest(tmp_path, GOLD)
    artifacts.open_step(GOLD, tmp_path, SAMPLE)
    artifacts.discard_partial(GOLD, tmp_path)
    assert not (tmp_path / GOLD).exists()


# --- when a step is current ------------------------------------------------------------------


def test_current_after_finishing_and_not_before(tmp_path):
    assert not artifacts.is_current(GOLD, tmp_path, SAMPLE)
    artifacts.open_step(GOLD, tmp_path, SAMPLE)
    assert not artifacts.is_current(GOLD, tmp_path, SAMPLE)
    complete(GOLD, tmp_path, SAMPLE)
    assert artifacts.is_current(GOLD, tmp_path, SAMPLE)
    assert artifacts.is_current(GOLD, tmp_path, schema.GoldDataParams(sources=["sample"]))


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"test_share": 0.2}, {"max_corpus": 10}, {"skip_empty_texts": True}]
)
def test_not_current_after_a_change_of_parameters(tmp_path, change):
    complete(GOLD, tmp_path, SAMPLE)
    assert not artifacts.is_current(GOLD, tmp_path, SAMPLE.model_copy(update=change))


def test_not_current_after_a_change_of_data(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "a_train.csv").write_text("text,label\nда,positive\n", encoding="utf-8")
    p = schema.GoldDataParams(sources=["local"], data_dir=str(data))
    complete(GOLD, tmp_path / "run", p)
    assert artifacts.is_current(GOLD, tmp_path / "run", p)
    (data / "a_train.csv").write_text("text,label\nда,negative\n", encoding="utf-8")
    assert not artifacts.is_current(GOLD, tmp_path / "run", p)


def test_not_current_after_a_change_of_the_base_model(tmp_path, base):
    complete(GOLD, tmp_path / "run", SAMPLE)
    complete(BASE, tmp_path / "run", base)
    assert artifacts.is_current(BASE, tmp_path / "run", base)
    (tmp_path / "model" / "weights.bin").write_bytes(b"2")
    assert not artifacts.is_current(BASE, tmp_path / "run", base)


def test_upstream_outputs_matter_and_not_that_they_were_written_again(tmp_path, base):
    run_dir = tmp_path / "run"
    complete(GOLD, run_dir, SAMPLE, {"gold.parquet": "one"})
    complete(BASE, run_dir, base)
    complete(GOLD, run_dir, SAMPLE, {"gold.parquet": "one"})
    assert artifacts.is_current(BASE, run_dir, base)
    complete(GOLD, run_dir, SAMPLE, {"gold.parquet": "one", "figures/a.png": "never read by 02"})
    assert artifacts.is_current(BASE, run_dir, base)
    complete(GOLD, run_dir, SAMPLE, {"gold.parquet": "two"})
    assert artifacts.is_current(GOLD, run_dir, SAMPLE)
    assert not artifacts.is_current(BASE, run_dir, base)


def test_not_current_while_the_upstream_is_incomplete(tmp_path, base):
    complete(GOLD, tmp_path / "run", SAMPLE)
    complete(BASE, tmp_path / "run", base)
    artifacts.discard(GOLD, tmp_path / "run")
    assert not artifacts.is_current(BASE, tmp_path / "run", base)


@pytest.mark.parametrize(
    ("module", "old", "new", "current"),
    [
        (None, "", "", True),
        ("duplicates", "SENSITIVE = 32", "SENSITIVE = 16", False),
        ("registry", '"3": "positive"', '"3": "neutral"', False),
        ("duplicates", "SENSITIVE = 32", "SENSITIVE = 32  # another comment\n\n", True),
        ("metric_learning", "import", "UNRELATED = 1\nimport", True),
    ],
    ids=["no change", "module", "module behind a module", "comment", "module of other steps"],
)
def test_change_of_the_code(tmp_path, monkeypatch, module, old, new, current):
    complete(GOLD, tmp_path / "run", SAMPLE)
    use_copied_code(monkeypatch, tmp_path / "copy", module, old, new)
    assert artifacts.is_current(GOLD, tmp_path / "run", SAMPLE) is current


def test_change_of_the_notebook(tmp_path, monkeypatch):
    complete(GOLD, tmp_path / "run", SAMPLE)
    use_copied_code(monkeypatch, tmp_path / "copy")
    path = code.notebook_path(GOLD)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"].append({"cell_type": "code", "metadata": {}, "source": ["x = 1"]})
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert not artifacts.is_current(GOLD, tmp_path / "run", SAMPLE)
