"""The command that compares two checkpoints."""

import argparse
import sys
from pathlib import Path
from typing import Any

from tlx.cli import _commands


def add(commands: Any) -> None:
    """Adds them."""
    command = _commands.command(
        commands, "audit", _audit, "what two checkpoints share and where they differ"
    )
    command.add_argument("a", help="a file of weights (torch.save, safetensors, msgpack, npz)")
    command.add_argument("b", help="another; or workdirs of tlx")
    command.add_argument("--parent", help="the weights from which both were trained on")
    command.add_argument(
        "--model",
        metavar="NAME[,OPTION=VALUE]|MODULE:FUNCTION",
        help="what they are of: a name in tlx.models, as resnet50, or a function of yours from a "
        "path to (apply_fn, params) or (apply_fn, params, feature_fn)",
    )
    command.add_argument("--key", help="where in the files the weights are, as state_dict")
    command.add_argument(
        "--data",
        help="a folder with a folder of images for each class, or an .npz with labels and images "
        "(uint8) or inputs; needs a model",
    )
    command.add_argument(
        "--split", help="the folder of --data that has the classes (test, where there is one)"
    )
    command.add_argument("--size", type=int, default=224, help="of images, in pixels (224)")
    command.add_argument(
        "--mean", type=_numbers, metavar="R,G,B", help="of the pixels in 0 … 1 (ImageNet's)"
    )
    command.add_argument(
        "--std", type=_numbers, metavar="R,G,B", help="their deviation (ImageNet's)"
    )
    command.add_argument("--most", type=int, default=500, help="examples to look at (500)")
    command.add_argument(
        "--out", type=_commands.place, help="a folder for the page, its tables and a JSON (audit)"
    )


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def _audit(args: argparse.Namespace, overrides: list[str]) -> None:
    """Says in plain words what two checkpoints share and where they differ.

    From weights alone, in seconds: what changed, where most, and how (trained on, of low rank,
    noise, scaled, in another order, replaced); with a parent, whether they were made from it.
    With data and a model also: one basin or not, what the mean of the weights scores, which
    modules matter, where features differ, and on what both err.

    The folder --out gets audit.html, audit.json and each table as CSV and LaTeX.
      tlx audit a.pth b.pth --parent=base.pth --model=resnet50 --data=photos/test
      tlx audit a.npz b.npz --model=mine.nets:load --data=test.npz
    """
    from tlx.audit import data, page, run
    from tlx.report.draw.look import matplotlib

    matplotlib("")  # the page needs it: an error before the work, and not after
    if overrides:
        raise ValueError("audit takes no config")
    paths = {"a": args.a, "b": args.b} | ({"parent": args.parent} if args.parent else {})
    is_terminal = sys.stderr.isatty()

    def tell(what: str) -> None:
        if is_terminal:
            print(f"\r\x1b[K{what} …", end="", file=sys.stderr, flush=True)
        elif what != "reading":  # while that is done an error is the only line
            print(f"{what} …", file=sys.stderr, flush=True)

    found = run.run(
        paths,
        model=args.model,
        key=args.key,
        data_path=args.data,
        tell=tell,
        split=args.split,
        image_size=args.size,
        mean=args.mean or data.MEAN,
        std=args.std or data.STD,
        most=args.most,
    )
    tell("the page")
    made = page.write(found, args.out or Path("audit"))
    if is_terminal:
        print("\r\x1b[K", end="", file=sys.stderr)
    print(f"{found.text()}\n\nthe page: {made}")
