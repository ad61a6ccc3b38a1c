"""Commands about data sets."""

import argparse
import sys
from typing import Any

from tlx.cli import _commands


def add(commands: Any) -> None:
    """Adds them."""
    data = commands.add_parser("data", help="what data sets there are, and whether they are sound")
    of_data = data.add_subparsers(dest="what", required=True, metavar="what")
    _commands.command(of_data, "list", _data_list, "the names that a config's data.name takes")
    command = _commands.command(
        of_data, "prepare", _data_prepare, "one as tensorflow-datasets' files"
    )
    command.add_argument("name", help="as tensorflow-datasets calls it, as fashion_mnist")
    command = _commands.command(of_data, "check", _data_check, "a look at one")
    command.add_argument("name", help="as data.name in a config")
    command.add_argument("--split", default="train", help="which part (train)")
    command.add_argument("--folder", help="where its files are; else $TLX_DATA_DIR/NAME")
    command.add_argument(
        "--out", type=_commands.place, help="a PNG of some images with their labels"
    )
    command.add_argument("--all", action="store_true", help="decode every image, not a sample")


def _data_list(args: argparse.Namespace, overrides: list[str]) -> None:
    """Every source, and what it lacks here."""
    from tlx.data import sources

    for name in sources.known():
        lacks = None if name.startswith("tfds/") else sources.unavailable(name, "train")
        print(f"{name}: {lacks}" if lacks else name)


def _data_prepare(args: argparse.Namespace, overrides: list[str]) -> None:
    """Prepares a data set without TensorFlow, or says how it is prepared."""
    from tlx.data import prepare

    print(prepare.prepare(args.name))


def _data_check(args: argparse.Namespace, overrides: list[str]) -> None:
    """Counts a split, decodes a sample of it (or all), and says what cannot be read.

    Ends with status 1 if something is wrong.
    """
    from tlx.data import check
    from tlx.report.draw.grid import grid

    is_terminal = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if is_terminal and (done % 100 == 0 or done == total):
            print(f"\r{done:,} of {total:,} decoded", end="\n" * (done == total), file=sys.stderr)

    found = check.check(args.name, args.split, args.folder, every=args.all, progress=progress)
    print(check.summary(found))
    if args.out and found.images:
        grid(found.images, found.titles).savefig(args.out, dpi=150)
        print(args.out)
    if found.bad:
        raise ValueError(f"{len(found.bad)} of {args.name}'s images cannot be read; they are above")
