"""The command line, `python -m lib COMMAND`; `python -m lib --help` lists the commands."""

from __future__ import annotations

import argparse
import errno
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from lib.errors import DISK_FULL, UserError, is_disk_full, printable


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("papermill", "traitlets", "httpx", "huggingface_hub", "datasets", "faiss"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidy up as after Ctrl-C
    try:
        return command(**options) or 0
    except UserError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2
    except Exception as error:
        if is_disk_full(type(error).__name__, str(error)):
            remedy = DISK_FULL
        elif getattr(error, "errno", None) in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "give this user the rights to it, or name another place"
        else:
            raise
        print(printable(f"error: {error}; {remedy}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lib",
        description="From a big noisy pile of text to a small Russian sentiment model.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the steps of a parameter file")
    _add_params(run)
    run.add_argument("--from", dest="first", metavar="STEP", help="first step, such as 03")
    run.add_argument("--to", dest="last", metavar="STEP", help="last step")
    run.add_argument("--only", metavar="STEP", help="just this step")
    run.add_argument("--force", action="store_true", help="make everything of these steps anew")
    run.add_argument("--appendix", action="store_true", help="run the appendices of 06, too")
    run.add_argument("--plan", action="store_true", help="only say what it will need, and how long")
    _add_outputs(run)
    run.set_defaults(command=_run)

    step = commands.add_parser(
        "step",
        help="the long part of a step in several processes, under torchrun or accelerate launch",
    )
    step.add_argument("step", metavar="STEP", help="02, 03 or 05")
    _add_params(step)
    _add_outputs(step)
    step.set_defaults(command=_step)

    sweep = commands.add_parser("sweep", help="many runs that share parts, and their comparison")
    _add_params(sweep)
    sweep.add_argument("--base", type=Path, metavar="FILE", help="another parameter file")
    sweep.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="so many runs at a time; default 1"
    )
    _add_outputs(sweep)
    sweep.set_defaults(command=_sweep)

    show = commands.add_parser("params", help="print the validated, complete parameters")
    _add_params(show)
    show.set_defaults(command=_params)

    report = commands.add_parser("report", help="render a run's notebooks to HTML again")
    report.add_argument("run_dir", type=Path, help="a folder in outputs/")
    report.add_argument("--single-file", action="store_true", help="as one file, to send by mail")
    report.set_defaults(command=_report)

    compare = commands.add_parser("compare", help="runs side by side on one HTML page")
    compare.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN", help="in outputs/")
    compare.add_argument(
        "--out", type=Path, metavar="FILE", help="the page; default: beside the first run"
    )
    compare.set_defaults(command=_compare)

    export = commands.add_parser("export", help="the model of a run, for others to take")
    export.add_argument("run_dir", type=Path, help="a folder in outputs/")
    export.add_argument(
        "--out", type=Path, metavar="DIR", help="new directory; or model in the run"
    )
    export.add_argument(
        "--keep-vocabulary",
        action="store_true",
        help="all tokens, not only those of Russian letters and of the run's texts",
    )
    export.add_argument(
        "--max-loss",
        type=float,
        default=0.01,
        metavar="F1",
        help="macro-F1 that int8 may cost on gold validation and test; default 0.01",
    )
    export.add_argument("--force", action="store_true", help="replace what is there")
    export.set_defaults(command=_export)

    predict = commands.add_parser("predict", help="label files, standard input or a text")
    predict.add_argument("model", help="a run, a trained model, or an exported folder")
    predict.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="with a `text`; none: standard input"
    )
    predict.add_argument("--out", type=Path, metavar="OUT", help="new file; or a directory")
    predict.add_argument("--text", action="append", metavar="TEXT", help="a text, not a file")
    predict.add_argument("--text-column", default="text", metavar="NAME", help="default: text")
    predict.add_argument(
        "--on-error",
        choices=("stop", "empty"),
        default="stop",
        help="what a broken row does: stop before anything is predicted, or get no label",
    )
    predict.add_argument("--force", action="store_true", help="replace what is there")
    predict.set_defaults(command=_predict)

    trim = commands.add_parser("trim", help="a base model with only the tokens a corpus uses")
    trim.add_argument("base_model", help="directory of a checkpoint, or embedded:e5-small")
    trim.add_argument(
        "--corpus", type=Path, nargs="+", required=True, metavar="FILE", help="files with a `text`"
    )
    trim.add_argument("--out", type=Path, required=True, metavar="DIR", help="new directory")
    trim.add_argument(
        "--min-count", type=int, default=1, metavar="N", help="drop tokens that occur less often"
    )
    trim.set_defaults(command=_trim)
    return parser


def _add_params(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a parameter file, such as params/demo.yaml")
    parser.add_argument(
        "-p",
        dest="overrides",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="override a parameter: step.name=value, or name=value for every step that has it",
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--outputs", type=Path, metavar="DIR", help="where runs go; or outputs/")


def _run(file: Path, overrides: list[str], outputs: Path | None, **choice: Any) -> int:
    from lib.runs import parameter_files, runner

    params = parameter_files.load(file, overrides)
    return runner.run(params, outputs=outputs or runner.OUTPUTS, **choice)


def _step(step: str, file: Path, overrides: list[str], outputs: Path | None) -> None:
    from lib.models import encoder
    from lib.runs import parameter_files, parts, runner, steps

    group = encoder.processes()
    name = parameter_files.find_step(step)
    if name not in parts.TOGETHER:
        raise UserError(f"{name} has no part for several processes; 02, 03 and 05 have")
    params = parameter_files.load(file, overrides)
    with group.main_process_first():  # it may ask the hub which commit is the newest
        run_dir, params = runner.prepare(params, [name], outputs or runner.OUTPUTS)
    opened = steps.open_step(name, run_dir, params.steps[name], group)
    if group.is_main_process:
        logging.info("%s: %d processes", name, group.num_processes)
    parts.TOGETHER[name](opened)


def _sweep(
    file: Path, overrides: list[str], base: Path | None, jobs: int, outputs: Path | None
) -> int:
    from lib.runs import runner, sweep

    if jobs < 1:
        raise UserError(f"--jobs {jobs}: expected a whole number >= 1")
    loaded = sweep.load(file, overrides, base)
    folder = (outputs or runner.OUTPUTS).resolve()
    failed = sweep.run(loaded, folder, jobs)
    sweep.write(loaded, folder / loaded.name)
    if failed:
        print(f"{len(failed)} points failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _params(file: Path, overrides: list[str]) -> None:
    from lib.runs import parameter_files

    print(parameter_files.to_yaml(parameter_files.load(file, overrides)), end="")


def _report(run_dir: Path, single_file: bool) -> None:
    from lib.reports import report

    print(report.write_single(run_dir) if single_file else report.write(run_dir))


def _compare(run_dirs: list[Path], out: Path | None) -> None:
    from lib.reports import compare

    print(compare.write(run_dirs, out))


def _export(run_dir: Path, out: Path | None, **options: Any) -> None:
    from lib.models import deployment
    from lib.reports import report

    folder = deployment.export(run_dir, out, **options)
    if out is None:
        report.write(run_dir)  # its front page shows the model
    print(folder)


def _predict(
    model: str, files: list[Path], out: Path | None, text: list[str] | None, **options: Any
) -> None:
    from lib.models import SentimentModel, labelling

    if files and not text:
        if out is None:
            raise UserError("--out: name the file that the labels go to")
        for path in labelling.label_files(model, files, out, **options):
            print(path)
        return
    if files or out:
        raise UserError("give either FILE and --out, or --text, or lines on standard input")
    try:
        for line in labelling.label_lines(SentimentModel(model), text or sys.stdin):
            print(printable(line) if sys.stdout.isatty() else line, flush=True)
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 ({error.reason})") from error
    except BrokenPipeError:  # whoever reads has enough, such as head
        sys.stderr.close()


def _trim(base_model: str, corpus: list[Path], out: Path, **options: Any) -> None:
    from lib.models import vocabulary

    print(vocabulary.trim(base_model, corpus, out, **options))
    print(out)


if __name__ == "__main__":
    sys.exit(main())
