"""The command line: `python -m lib run|step|sweep|params|report|compare|sources|trim|bench`."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from pathlib import Path

from lib.bench import BENCHMARKS
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
    run.add_argument("--force", action="store_true", help="run steps that are up to date, too")
    run.add_argument("--outputs", type=Path, metavar="DIR", help="where runs go; default outputs/")
    run.add_argument("--no-report", action="store_true", help="do not render the notebooks")
    run.set_defaults(command=_run)

    step = commands.add_parser(
        "step", help="the long part of a step in several processes, under accelerate launch"
    )
    step.add_argument("step", metavar="STEP", help="02, 03 or 05")
    _add_params(step)
    step.add_argument("--outputs", type=Path, metavar="DIR", help="where runs go; default outputs/")
    step.add_argument("--round", type=int, default=1, metavar="N", help="of which round; default 1")
    step.set_defaults(command=_step)

    sweep = commands.add_parser("sweep", help="many runs that share steps, and their comparison")
    _add_params(sweep)
    sweep.add_argument("--base", type=Path, metavar="FILE", help="another parameter file")
    sweep.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="so many steps at a time; default 1"
    )
    sweep.add_argument("--outputs", type=Path, metavar="DIR", help="where runs go")
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

    sources = commands.add_parser("sources", help="list the data sets that can be named")
    sources.set_defaults(command=_sources)

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

    bench = commands.add_parser("bench", help="measure speed and memory on this machine")
    benchmarks = bench.add_subparsers(required=True, metavar="NAME")
    for name, description in BENCHMARKS.items():
        module = importlib.import_module(f"lib.bench.{name}")
        one = benchmarks.add_parser(name, help=description, description=description)
        module.add_arguments(one)
        one.set_defaults(command=module.run)
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


def _run(options: argparse.Namespace) -> int:
    from lib import distributed, params, runner

    if distributed.count() > 1:
        raise UserError("run needs a single process; accelerate launch is for: -m lib step STEP")
    loaded = params.load(options.file, options.overrides)
    return runner.run(
        loaded,
        first=options.first,
        last=options.last,
        only=options.only,
        force=options.force,
        outputs=(options.outputs or runner.OUTPUTS).resolve(),
        render=not options.no_report,
    )


def _sweep(options: argparse.Namespace) -> int:
    from lib import runner, sweep, sweep_runner, sweep_table

    if options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: expected a whole number >= 1")
    loaded = sweep.load(options.file, options.overrides, options.base)
    outputs = (options.outputs or runner.OUTPUTS).resolve()
    failed = sweep_runner.run(loaded, outputs, options.jobs)
    sweep_table.write(loaded, outputs / loaded.name)
    if failed:
        print(f"{len(failed)} points failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _step(options: argparse.Namespace) -> int:
    from lib import headless, params, rounds, runner

    loaded = runner.absolute_paths(params.load(options.file, options.overrides))
    name = runner.find_step(options.step)
    runner.check_inputs(loaded, [name])
    outputs = (options.outputs or runner.OUTPUTS).resolve()
    run_dir = outputs / loaded.run
    if options.round > 1:
        run_dir = rounds.prepare(run_dir, options.round)
    headless.run_long_part(name, run_dir, loaded.steps[name])
    return 0


def _params(options: argparse.Namespace) -> int:
    from lib import params

    print(params.to_yaml(params.load(options.file, options.overrides)), end="")
    return 0


def _report(options: argparse.Namespace) -> int:
    from lib import report

    write = report.write_single if options.single_file else report.write
    print(write(options.run_dir))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from lib import compare

    print(compare.write(options.run_dirs, options.out))
    return 0


def _sources(options: argparse.Namespace) -> int:
    from lib.registry import REGISTRY

    table = [("name", "role", "place", "labels", "licence", "citation")]
    for source in REGISTRY.values():
        role = "corpus, audit" if source.role == "corpus" and source.labels else source.role
        place, labels = source.place, source.mapping or "-"
        table.append((source.name, role, place, labels, source.licence, source.citation))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    return 0


def _trim(options: argparse.Namespace) -> int:
    from lib import trimming

    done = trimming.trim(
        options.base_model,
        options.corpus,
        options.out,
        min_count=options.min_count,
        max_size=options.max_size,
    )
    full, shape = trimming.MMBERT_BASE["vocab_size"], trimming.MMBERT_BASE
    mmbert = [trimming.shape_size(shape, n) for n in (full, min(full, done.after.tokens))]
    sizes = {options.base_model: (done.before, done.after), "mmBERT-base's shape": tuple(mmbert)}
    print(trimming.table(sizes))
    print(f"{done.coverage:.2%} of the corpus's tokens are kept as they are")
    print("mmBERT-base: computed from its configuration, with as many tokens as are kept here")
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
