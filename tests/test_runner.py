"""The runner's choices and the command line's answers to bad input; no notebook is executed."""

import errno
import inspect
import logging
import os
from pathlib import Path
from unittest import mock

import nbformat
import pytest
import torch

from lib import artefacts, files
from lib.__main__ import _parser, main
from lib.errors import UserError, is_disk_full
from lib.models import deployment, encoder, labelling, vocabulary
from lib.parameters import STEPS
from lib.runs import fingerprints, parameter_files, runner

DEMO = str(fingerprints.PROJECT / "params" / "demo.yaml")
LOCAL = str(fingerprints.PROJECT / "params" / "local.yaml")
FULL = str(fingerprints.PROJECT / "params" / "full.yaml")


@pytest.mark.parametrize(
    ("first", "last", "only", "expected"),
    [
        (None, None, None, ["01", "02", "03", "04", "05", "06"]),
        ("03", None, None, ["03", "04", "05", "06"]),
        (None, "2", None, ["01", "02"]),
        ("03_embed_corpus", "04", None, ["03", "04"]),
        (None, None, "5", ["05"]),
        (None, None, "appendix_s", ["ap"]),
    ],
)
def test_step_choice(first, last, only, expected):
    assert [name[:2] for name in runner.choose_steps(first, last, only)] == expected


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        (("04_cluster_puritty", None, None), "04_cluster_purity"),
        (("05", "03", None), "comes after"),
        (("02", None, "03"), "--only"),
        ((None, None, "7"), "no step '7'"),
        (("appendix_s", None, None), "--only appendix_spaces, or --app"),
        ((None, "appendix_s", None), "--only appendix_spaces, or --app"),
    ],
)
def test_wrong_step_choice_names_the_nearest(choice, named):
    with pytest.raises(UserError, match=named):
        runner.choose_steps(*choice)


def test_all_problems_of_files_come_first(tmp_path, capsys):
    (tmp_path / "a_train.csv").write_text("review,sentiment\nда,1\n", encoding="utf-8")
    (tmp_path / "b.csv").write_bytes(b"")
    options = ["-p", f"data_dir={tmp_path}", "-p", "base_model=nowhere"]
    assert main(["run", LOCAL, "--outputs", str(tmp_path / "outputs"), *options]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "a_train.csv: no column 'text' and no column 'label'" in first
    assert "b.csv: no column 'text'" in second and not (tmp_path / "outputs").exists()


def test_the_log_says_how_files_are_written(tmp_path, caplog):
    lines = ["text;label", "плохо;negative", "никак;neutral", "хорошо;positive"]
    (tmp_path / "a_train.csv").write_text("\n".join(lines), encoding="cp1251")
    given = parameter_files.load(LOCAL, [f"data_dir={tmp_path}", "sources=[local]"])
    with caplog.at_level("INFO"):
        runner.prepare(given, ["01_gold_data"], tmp_path / "outputs")
    assert "a_train.csv (gold): cp1251, delimiter ';', labels are names (" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["-p", "04_cluster_purity.min_purty=0.95"], ["min_purty", "'min_purity'", "0.95"]),
        (["-p", "04_cluster_purity.min_purity=1.5"], ["less than or equal to 1, got 1.5"]),
        (["-p", "sources=[smaple]"], ["smaple", "'sample'"]),
        (["-p", "sources=[sample, sample]"], ["listed twice"]),
        (["-p", "sources=[local]"], ["data_dir", "is not a folder"]),
        (["-p", "sources=[local]", "-p", "data_dir=/nowhere/at/all"], ["/nowhere/at/all"]),
        (["-p", "base_model=embedded:e5-large"], ["embedded:e5-large", "embedded:e5-small"]),
        (["-p", "start_model=nowhere"], ["nowhere"]),
        (["--from", "08"], ["no step '08'"]),
    ],
)
def test_bad_input_stops_before_anything_starts(arguments, parts, tmp_path, capsys):
    outputs = tmp_path / "outputs"
    assert main(["run", DEMO, "--outputs", str(outputs), *arguments]) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in parts), message
    assert "Traceback" not in message
    assert not outputs.exists()


def test_relative_folders_are_made_absolute(tmp_path, monkeypatch):
    """Notebooks run in their own folder, so a relative data_dir must not reach them."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    given = ["data_dir=mine", "base_model=jhu-clsp/mmBERT-base", "start_model=mine"]
    steps = runner.absolute_paths(parameter_files.load(LOCAL, given)).steps
    assert steps["01_gold_data"].data_dir == str(tmp_path / "mine")
    assert steps["02_base_classifier"].base_model == "jhu-clsp/mmBERT-base"
    assert steps["02_base_classifier"].start_model == str(tmp_path / "mine")


def test_a_hub_model_is_pinned_once(tmp_path, monkeypatch):
    """A run that goes on later has the model it began with, also where the hub has a newer one."""
    commits = iter(["first", "second"])
    monkeypatch.setattr(encoder, "resolve_revision", lambda model, revision: next(commits))
    chosen = list(STEPS)
    for _ in range(2):
        pinned = runner.with_revisions(parameter_files.load(FULL), chosen, tmp_path)
        assert pinned.steps["02_base_classifier"].base_revision == "first"
        assert pinned.steps["05_metric_learning"].base_revision == "first"
    assert files.read_json(tmp_path / runner.REVISIONS) == {"jhu-clsp/mmBERT-base": "first"}
    named = parameter_files.load(FULL, ["base_revision=mine"])
    assert runner.with_revisions(named, chosen, tmp_path) == named


@pytest.mark.parametrize("content", ["null", "[]", "{"])
def test_damaged_files_of_a_run(tmp_path, monkeypatch, content):
    run, name = parameter_files.load(FULL), "01_gold_data"
    (tmp_path / runner.REVISIONS).write_text(content)
    with pytest.raises(UserError, match=r"revisions\.json is damaged; remove it"):
        runner.with_revisions(run, list(STEPS), tmp_path)
    path = artefacts.executed_notebook(tmp_path, name)
    files.write_text(path, content)
    monkeypatch.setattr(runner.steps, "is_current", lambda *_: True)
    assert not runner.is_done(name, tmp_path, run.steps[name])


@pytest.mark.parametrize("digest", ["now", "before"])
def test_figures_of_earlier_artefacts_are_said_to_be_that(tmp_path, capsys, digest):
    about = {"inputs": {}, "outputs": {"tables/gold.parquet": "now"}}
    files.write_json(tmp_path / "01_gold_data" / "manifest.json", about)
    read = files.digest({"tables/gold.parquet": digest})
    about = {"inputs": {"01_gold_data/tables/gold.parquet": read}}
    files.write_json(tmp_path / "06_final_eval" / "manifest.json", about)
    row = {"name": "macro_f1", "dataset": "gold", "split": "test", "texts": 9, "model": "base"}
    files.write_json(tmp_path / "06_final_eval" / "metrics.json", [row | {"value": 0.5}])
    runner.print_summary(tmp_path, tmp_path, 1)
    printed = capsys.readouterr().out
    assert "0.500" in printed and ("out of date: 06" in printed) == (digest == "before")


def test_without_a_hub_the_full_configuration_says_what_to_do(tmp_path, capsys):
    arguments = ["-p", "sources=[sample]", "-p", "precision=auto", "--outputs", str(tmp_path)]
    assert main(["run", FULL, *arguments]) == 2
    message = capsys.readouterr().err
    assert "jhu-clsp/mmBERT-base" in message and "embedded:e5-small" in message
    assert "Traceback" not in message


def test_only_without_earlier_steps_says_which_is_missing(tmp_path, capsys):
    """This message comes from inside the notebook: it must arrive as clean as the others."""
    assert main(["run", DEMO, "--outputs", str(tmp_path), "--only", "04"]) == 2
    message = capsys.readouterr().err
    assert "reads the artefacts of 0" in message and "which is not complete" in message
    assert "Traceback" not in message


@pytest.fixture
def one_cell(tmp_path, monkeypatch):
    """Execute a notebook of one cell as if it were step 01."""

    def execute(source):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, tmp_path / "one.ipynb")
        monkeypatch.setattr(fingerprints, "notebook_path", lambda step: tmp_path / "one.ipynb")
        params = parameter_files.load(DEMO).steps["01_gold_data"]
        return runner.execute("01_gold_data", tmp_path / "run", params, "[1/1]")

    return execute


@pytest.mark.parametrize("option", ["--quiet", "--log-level=none"], ids=["at work", "at start"])
def test_a_notebook_whose_process_dies_is_named(one_cell, tmp_path, caplog, monkeypatch, option):
    """As when the system kills it because memory is full; an unknown level ends it at its start."""
    monkeypatch.setattr(runner, "KERNEL", [option])
    assert not one_cell("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert "memory is full" in caplog.text
    assert [path.name for path in (tmp_path / "run" / "notebooks").iterdir()] == [
        "01_gold_data.failed.ipynb"
    ]


@pytest.mark.parametrize(
    "error",
    [
        "OSError(28, 'No space left on device')",
        "OSError('8 requested and 4 written')",  # np.save
        "RuntimeError('[enforce fail at x.cc:672] . unexpected pos 576 vs 534')",  # torch.save
        "ValueError('x')",
    ],
)
def test_a_full_disk_is_named(one_cell, caplog, error):
    assert not one_cell(f"raise {error}")
    assert ("the disk is full: free space" in caplog.text) == (error != "ValueError('x')")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("size", [1, 10**6])
def test_a_full_disk_is_known_by_torchs_own_words(size):
    with pytest.raises(RuntimeError) as caught:
        torch.save({"a": torch.zeros(size)}, "/dev/full")
    assert is_disk_full("RuntimeError", str(caught.value))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT])
def test_missing_rights_are_one_line(monkeypatch, capsys, number):
    error = OSError(number, os.strerror(number), "/there")
    monkeypatch.setattr(deployment, "export", mock.Mock(side_effect=error))
    assert main(["export", "outputs/x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{os.strerror(number)}: '/there'; " in line


def test_outputs_that_cannot_be_written_are_named_where_a_model_is_pinned(tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "resolve_revision", lambda *_: "first")
    monkeypatch.setattr(Path, "mkdir", mock.Mock(side_effect=OSError(errno.EROFS, "Read-only")))
    with pytest.raises(UserError, match=r"cannot be written: .*; name another --outputs"):
        runner.with_revisions(parameter_files.load(FULL), list(STEPS), tmp_path / "x")


def test_what_a_killed_replacement_left_is_removed_when_the_run_goes_on(tmp_path, monkeypatch):
    params = parameter_files.load(DEMO, ["run=x"])
    name = "03_embed_corpus"
    for folder in (name, f".{name}.old", ".04_cluster_purity.old"):
        files.write_text(tmp_path / "x" / folder / "file", "")
    monkeypatch.setattr(runner.plans, "check", lambda *_: None)
    monkeypatch.setattr(runner, "check_inputs", lambda *_: None)
    monkeypatch.setattr(runner, "is_done", lambda *_: True)
    assert runner.run(params, only="05", outputs=tmp_path, render=False) == 0
    found = {path.name for path in (tmp_path / "x").iterdir() if path.is_dir()}
    assert found == {name, "04_cluster_purity"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("x")])
def test_a_full_disk_is_named_whatever_says_so(monkeypatch, capsys, error):
    """safetensors and pyarrow have errors of their own."""
    kind = type("SafetensorError", (Exception,), {})
    for raised in (error, kind(str(error))):
        monkeypatch.setattr(deployment, "export", mock.Mock(side_effect=raised))
        if "space" in str(error):
            assert main(["export", "outputs/x"]) == 2
            assert "the disk is full: free space" in capsys.readouterr().err
        else:
            with pytest.raises(type(raised)):
                main(["export", "outputs/x"])


def test_names_do_not_steer_the_terminal(tmp_path, capsys, monkeypatch):
    """Those of files stand in messages and in the log."""
    monkeypatch.setattr(logging.root, "handlers", [])
    name, shown = "a\x1b]0;имя\x07\r\u202eб", r"a\x1b]0;имя\x07\r\u202eб"
    (tmp_path / f"{name}.csv").write_text("text,label\nда,да\n", encoding="utf-8")
    options = ["-p", f"data_dir={tmp_path}", "-p", "gold_files=['*.csv']"]
    assert main(["run", LOCAL, "--outputs", str(tmp_path / "outputs"), *options]) == 2
    logging.warning("not read: %s", name)
    message = capsys.readouterr().err
    assert message.count(shown) == 2 and not set(message) & {"\x1b", "\r", "\u202e"}


def test_figures_are_shown_whatever_the_shell_has_set(one_cell, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    files.write_json(tmp_path / "run" / "01_gold_data" / "manifest.json", {"summary": "a"})
    code = "import matplotlib.pyplot as plt\nfigure, _ = plt.subplots()\nplt.close(figure)\nfigure"
    assert one_cell(code)
    path = artefacts.executed_notebook(tmp_path / "run", "01_gold_data")
    cell = nbformat.read(path, as_version=4).cells[-1]
    assert "image/png" in cell.outputs[0].data


def test_cuda_without_a_gpu(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert main(["run", DEMO, "--outputs", str(tmp_path / "o"), "-p", "device=cuda"]) == 2
    assert "sees no GPU" in capsys.readouterr().err


def test_params_command_prints_yaml_that_loads_again(tmp_path, capsys):
    assert main(["params", DEMO, "-p", "seed=7"]) == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out, encoding="utf-8")
    assert parameter_files.load(printed) == parameter_files.load(DEMO, ["seed=7"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "f"],
        ["step", "02", "f"],
        ["sweep", "f"],
        ["params", "f"],
        ["report", "r"],
        ["compare", "r"],
        ["export", "r"],
        ["predict", "m"],
        ["trim", "m", "--corpus", "f", "--out", "o"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_option_is_one_of_the_function_behind_it(arguments):
    """A command's function takes its options by name, and hands the rest on."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    inspect.signature(command).bind(**options)
    on = {
        "run": runner.run,
        "export": deployment.export,
        "predict": labelling.label_files,
        "trim": vocabulary.trim,
    }
    rest = options.keys() - inspect.signature(command).parameters.keys()
    known = inspect.signature(on[arguments[0]]).parameters.keys() if rest else set()
    assert rest <= known


def test_report_of_a_folder_without_notebooks(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "no executed notebook" in capsys.readouterr().err
