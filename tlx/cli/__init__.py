"""The command line: parse, build, call. The only place for flags."""

import argparse
import errno
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence

import tlx
from tlx.cli import audits, data, studies, weights
from tlx.core import processor
from tlx.train import stopping

DESCRIPTION = """\
What is being transferred in transfer learning? Trains networks from random and from
pretrained weights and compares them: mistakes, features, parameters, loss landscape."""

EXAMPLES = """\
examples:
  tlx study --config=configs/mini.py --workdir=runs/mini
      the default study, five minutes on two cores; ends with the path of its page
  tlx study --config=configs/mini.py --workdir=runs/long --config.finetune.num_steps=2000
      the same with another value; any key of the config can be set this way
  tlx study --config=configs/mini.py --workdir=runs/basin --config.questions="('basin',)"
      one question alone; its options stand under its name, as --config.basin.num_draws=64
  tlx status --workdir=runs/mini
      what of it is done, running, waiting or failed, and why; from another terminal or machine
  tlx train --config=configs/mini.py:scratch --workdir=runs/scratch
      one training run of it
  tlx report --workdir=runs/mini
      draws the page again from the records
  tlx data check folder --folder=photos --split=train --out=photos.png
      counts a data set, finds images that cannot be read, draws some; tlx data list names all
  tlx init --data=photos --source=drawings --minutes=30
      writes a config for a study on images of yours, fit for the time, that runs as it is
  tlx audit a.safetensors b.safetensors --parent=base.safetensors
      what two checkpoints share and where they differ, from their weights alone, in seconds
  tlx import resnet50.pth --model=resnet50 --workdir=runs/imported
      weights of torchvision or the authors, for runs to start from (init_from.workdir)
  tlx export --workdir=runs/scratch --out=scratch.safetensors
      a run's last weights with PyTorch's names

A command that was stopped goes on where it was when it is given again.

exit status: 0 done; 1 could not be done, as one sentence on standard error says; 2 unknown or
missing arguments; 130 interrupted, 143 asked to stop by SIGTERM, both after what is under way was
saved; 141 nobody reads what is printed.
"""

REMEDIES = {
    errno.ENOENT: "make the folder it is in, or name another",
    errno.ENOTDIR: "a part of the path is a file; name another",
    errno.EISDIR: "that is a folder; name a file",
    errno.EEXIST: "name another, or remove it",
    errno.EACCES: "its permissions forbid it; name a place that you may write to",
    errno.EROFS: "name a place that can be written to",
    errno.ENOSPC: "free some space and give the command again, which then goes on",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) and give the command again",
    errno.EDQUOT: "free some space and give the command again, which then goes on",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What to do about an error of the operating system."""


def run(argv: Sequence[str] | None = None) -> int:
    """As `main`, for a process that ends then: Ctrl-C while it does so is no traceback."""
    try:
        return main(argv)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit status, which `tlx --help` explains.

    What a user can cause is reported in one sentence. Other exceptions are faults of tlx, and come
    with their traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be UTF-8
    args, rest = _parser().parse_known_args(argv)
    overrides = [word.removeprefix("--config.") for word in rest if word.startswith("--config.")]
    other = [word for word in rest if not word.startswith("--config.")]
    if other:
        _parser().error(f"unknown arguments: {' '.join(other)}; see tlx {args.command} --help")
    processor.tune()
    for name in ("absl", "asyncio"):  # orbax logs each file, and what it raises
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        if getattr(args, "out", None) is not None and not args.out.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such folder", str(args.out.parent))
        with stopping.raised():
            status: int = args.run(args, overrides) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 141
    except (OSError, ValueError, ImportError, FloatingPointError) as error:
        told = _told(error) if isinstance(error, OSError) else error
        print(f"tlx {args.command}: {told}", file=sys.stderr)
        _leave()
        return 1
    except KeyboardInterrupt as error:
        where = getattr(error, "where", "")
        print(
            f"\nstopped{where and f' {where}'}; the same command goes on from here", file=sys.stderr
        )
        return 128 + getattr(error, "signum", signal.SIGINT)
    except Exception:
        _leave(traceback.format_exc())
        raise
    return status


def _leave(said: str = "") -> None:
    """Ends a process that failed, if it is one of several of a run."""
    if "jax" in sys.modules:  # else it is none
        from tlx.train import distributed

        distributed.leave(1, said)


def _told(error: OSError) -> str:
    """What happened where, and what to do."""
    if error.errno is None:
        return str(error)
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    remedy = REMEDIES.get(error.errno)
    return f"{where}{error.strerror}" + (f"; {remedy}" if remedy else "")


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "tlx", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"tlx {tlx.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for part in (studies, audits, data, weights):
        part.add(commands)
    return parser
