"""The Slurm of `slurm_node.sh` from Python, and lines that say when."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NODE = "tests/clusters/slurm_node.sh"


@contextlib.contextmanager
def started(folder: Path) -> Iterator[dict[str, str]]:
    """A Slurm in a folder while the context lasts, as the environment of commands."""
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))  # ends it as well
    subprocess.run(["bash", NODE, "start", folder], cwd=ROOT, check=True)
    try:
        text = (folder / "env").read_text()
        more = dict(re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE))
        yield os.environ | more | {"JAX_PLATFORMS": "cpu"}
    finally:
        subprocess.run(["bash", NODE, "stop", folder], cwd=ROOT, check=True)


def say(text: str) -> None:
    """Prints what happens, with the time of day."""
    for line in text.splitlines():
        print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)
