"""The command line, `python -m lib COMMAND`; `python -m lib --help` lists the commands."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from lib.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    for noisy in ("papermill", "traitlets", "httpx", "huggingface_hub", "datasets", "faiss"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        return options.command(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
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
        "--keep-vocabulary", action="store_true", help="also the tokens that no text of the run has"
    )
    export.add_argument(
        "--max-loss",
        type=float,
        default=0.01,
        metavar="F1",
        help="macro-F1 on gold test that int8 may cost; default 0.01",
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
    trim.add_argument("--max-size", type=int, metavar="N", help="keep at most so many tokens")
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


def _run(options: argparse.Namespace) -> int:
    from lib.runs import parameter_files, runner

    return runner.run(
        parameter_files.load(options.file, options.overrides),
        first=options.first,
        last=options.last,
        only=options.only,
        force=options.force,
        appendix=options.appendix,
        outputs=options.outputs or runner.OUTPUTS,
    )


def _step(options: argparse.Namespace) -> int:
    from lib.runs import parameter_files, parts, runner, steps

    processes = steps.processes()
    name = parameter_files.find_step(options.step)
    if name not in parts.TOGETHER:
        raise UserError(f"{name} has no part for several processes; 02, 03 and 05 have")
    with processes.main_process_first():  # opening a run locks it for a moment
        run_dir, params = runner.prepare(
            parameter_files.load(options.file, options.overrides),
            [name],
            options.outputs or runner.OUTPUTS,
        )
        step = steps.open_step(name, run_dir, params.steps[name])
        step.group = processes
    processes.wait_for_everyone()  # all have opened the run before one of them locks it
    if processes.is_main_process:
        logging.info("%s: %d processes", name, processes.num_processes)
    parts.TOGETHER[name](step)
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from lib.runs import runner, sweep

    if options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: expected a whole number >= 1")
    loaded = sweep.load(options.file, options.overrides, options.base)
    outputs = (options.outputs or runner.OUTPUTS).resolve()
    failed = sweep.run(loaded, outputs, options.jobs)
    sweep.write(loaded, outputs / loaded.name)
    if failed:
        print(f"{len(failed)} points failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _params(options: argparse.Namespace) -> int:
    from lib.runs import parameter_files

    loaded = parameter_files.load(options.file, options.overrides)
    print(parameter_files.to_yaml(loaded), end="")
    return 0


def _report(options: argparse.Namespace) -> int:
    from lib.reports import report

    write = report.write_single if options.single_file else report.write
    print(write(options.run_dir))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from lib.reports import compare

    print(compare.write(options.run_dirs, options.out))
    return 0


def _export(options: argparse.Namespace) -> int:
    from lib.models import deployment
    from lib.reports import report

    folder = deployment.export(
        options.run_dir,
        options.out,
        keep_vocabulary=options.keep_vocabulary,
        max_loss=options.max_loss,
        force=options.force,
    )
    if options.out is None:
        report.write(options.run_dir)  # its front page shows the model
    print(folder)
    return 0


def _predict(options: argparse.Namespace) -> int:
    from lib.models import SentimentModel, labelling

    if options.files and not options.text:
        if options.out is None:
            raise UserError("--out: name the file that the labels go to")
        for path in labelling.label_files(
            options.model,
            options.files,
            options.out,
            text_column=options.text_column,
            on_error=options.on_error,
            force=options.force,
        ):
            print(path)
        return 0
    if options.files or options.out:
        raise UserError("give either FILE and --out, or --text, or lines on standard input")
    model = SentimentModel(options.model)
    for line in labelling.label_lines(model, options.text or sys.stdin):
        print(line, flush=True)
    return 0


def _trim(options: argparse.Namespace) -> int:
    from lib.models import vocabulary

    print(
        vocabulary.trim(
            options.base_model,
            options.corpus,
            options.out,
            min_count=options.min_count,
            max_size=options.max_size,
        )
    )
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
