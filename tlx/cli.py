"""The command line: parse, build, call. The only place for flags."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import tlx

DESCRIPTION = """\
What is being transferred in transfer learning? Trains networks from random and from
pretrained weights and compares them: mistakes, features, parameters, loss landscape."""

EXAMPLES = """\
examples:
  tlx study --config=configs/mini.py --workdir=runs/mini
      the default study, four minutes on two cores; ends with the path of its page
  tlx study --config=configs/mini.py --workdir=runs/long --config.finetune.num_steps=2000
      the same with another value; any key of the config can be set this way
  tlx train --config=configs/mini.py:scratch --workdir=runs/scratch
      one training run of it
  tlx report --workdir=runs/mini
      draws the page again from the records

A command that was stopped goes on where it was when it is given again.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0 done, 1 could not be done, 2 bad arguments."""
    args, rest = _parser().parse_known_args(argv)
    overrides = [word.removeprefix("--config.") for word in rest if word.startswith("--config.")]
    other = [word for word in rest if not word.startswith("--config.")]
    if other:
        _parser().error(f"unknown arguments: {' '.join(other)}; see tlx {args.command} --help")
    logging.getLogger("absl").setLevel(logging.WARNING)  # orbax tells each file it touches
    try:
        args.run(args, overrides)
    except (ValueError, ImportError, FloatingPointError) as error:
        print(f"tlx {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "tlx", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"tlx {tlx.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, run, summary in (
        ("study", _study, "a whole study: runs, analyses, page"),
        ("train", _train, "one training run"),
        ("report", _report, "draw a study's page again from its records"),
    ):
        command = commands.add_parser(
            name, help=summary, description=run.__doc__, formatter_class=raw
        )
        command.set_defaults(run=run)
        if name != "report":
            command.add_argument(
                "--config",
                required=True,
                metavar="FILE[:ARG]",
                help="a Python file with get_config(arg); set single values by "
                "--config.key.subkey=VALUE",
            )
        command.add_argument(
            "--workdir", required=True, type=Path, help="where everything is written"
        )
    return parser


def _study(args: argparse.Namespace, overrides: list[str]) -> None:
    """Does what is left of a study and draws its page.

    The workdir holds study.json (the resolved config), runs/ (checkpoints and metrics),
    records/ (what was measured, npz and json) and report.html.
    """
    from tlx import config
    from tlx.report import tables
    from tlx.studies import local, progress
    from tlx.studies.spec import StudySpec
    from tlx.train import distributed

    spec = config.build(StudySpec, config.load(args.config, overrides))
    distributed.initialize_if_cluster()
    result = local.run(spec, args.workdir)
    if not distributed.is_primary():
        return
    print(tables.summary(result.records))
    print(f"\n{progress.clock(result.seconds)}; the report: {result.page}")


def _train(args: argparse.Namespace, overrides: list[str]) -> None:
    """Trains one model.

    The workdir holds config.json (the resolved config), metrics.jsonl, checkpoints/ and, at
    the end, result.json.
    """
    from tlx import config
    from tlx.studies import local
    from tlx.train import distributed
    from tlx.train.spec import RunSpec

    spec = config.build(RunSpec, config.load(args.config, overrides))
    distributed.initialize_if_cluster()
    result = local.run_one(spec, args.workdir)
    print(
        f"{result.name}: test accuracy {result.test['accuracy']:.4f} at step {result.step}, "
        f"best {result.best_test['accuracy']:.4f} at step {result.best_step}; {result.workdir}"
    )


def _report(args: argparse.Namespace, overrides: list[str]) -> None:
    """Draws the page again from the records of a study's workdir."""
    from tlx.studies import local

    if overrides:
        raise ValueError("report takes no config: it draws what the records hold")
    print(local.redraw(args.workdir))


if __name__ == "__main__":
    sys.exit(main())
