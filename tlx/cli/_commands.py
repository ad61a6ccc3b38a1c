"""What every command has."""

import argparse
from pathlib import Path
from typing import Any


def command(commands: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    """A command, which explains itself by the docstring of the function that it runs."""
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=run.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run=run)
    return made


def place(text: str) -> Path:
    """The path of an argument; none is not the current folder: a variable was not set."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}; the current folder is .")
    return Path(text)
