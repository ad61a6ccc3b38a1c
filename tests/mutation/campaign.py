"""Applies mutations one at a time to a copy of the tree, and runs the nearest tests on each."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.mutation.mutations import ROOT, Mutation

LEFT_OUT = (".git", ".venv", "runs", "__pycache__", ".*_cache", "*.egg-info", "build", "dist")
SECONDS = 600
"""The most that the tests of one mutation may take; what has not failed by then has survived."""


def copied(folder: Path) -> Path:
    """A copy of the tree in a folder, which is what gets mutated."""
    return Path(shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*LEFT_OUT)))


def pytest(tree: Path, *words: str, seconds: float) -> tuple[int | None, str]:
    """Exit code (None if stopped after so many seconds) and output of pytest in a copy."""
    environ = os.environ | {
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        # what a mutation does not touch was compiled before it
        "JAX_COMPILATION_CACHE_DIR": str(tree.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    plugins = ("no:cacheprovider", "no:xdist", "tests.mutation.quick")
    command = [sys.executable, "-m", "pytest", "-q", *(f"-p{name}" for name in plugins)]
    try:
        done = subprocess.run(
            [*command, "-rfE", "--tb=no", "--durations=0", *words],
            cwd=tree,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return None, (error.stdout or b"").decode(errors="replace")
    return done.returncode, done.stdout


def failed(output: str) -> list[str]:
    """The tests that pytest's summary names as failed."""
    return re.findall(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", output, re.MULTILINE)


def check_sound(tree: Path, mutations: Sequence[Mutation]) -> None:
    """Raises unless all tests pass on the tree as it is: else nothing is learnt from a failure."""
    chosen = sorted({path for mutation in mutations for path in mutation.paths})
    code, output = pytest(tree, *chosen, seconds=SECONDS * len(chosen))
    if code != 0:
        raise RuntimeError(f"tests fail without any mutation:\n{output[-4000:]}")


def run(tree: Path, mutation: Mutation) -> dict[str, Any]:
    """What becomes of the tests with one mutation in the copy, which is put back afterwards."""
    file = tree / "tlx" / mutation.file
    text = file.read_text()
    began = time.monotonic()
    try:
        file.write_text(mutation.mutated(tree))
        code, output = pytest(tree, "-x", *mutation.paths, seconds=SECONDS)
    finally:
        file.write_text(text)
    if code not in (0, 1, 2, None):  # 2 is an error while collecting
        raise RuntimeError(f"pytest ended with {code} on {mutation.tests}:\n{output[-4000:]}")
    names = failed(output)
    if code in (1, 2) and not names:
        raise RuntimeError(f"pytest names no failed test on {mutation.tests}:\n{output[-4000:]}")
    killed_by = names[0] if names else ""
    return {**mutation._asdict(), "killed_by": killed_by, "seconds": time.monotonic() - began}


def all_of(tree: Path, mutations: Sequence[Mutation], results: Path | None) -> list[dict[str, Any]]:
    """Each mutation's result; those that a file of results holds are not run again."""
    known: dict[str, Any] = {}
    if results is not None and results.exists():
        known = json.loads(results.read_text())
    found = []
    for number, mutation in enumerate(mutations, 1):
        digest = mutation.digest(tree)
        if digest not in known:
            known[digest] = run(tree, mutation)
            if results is not None:
                results.write_text(json.dumps(known, indent=1) + "\n")
        found.append({**known[digest], "reason": mutation.reason})
        say = known[digest]["killed_by"] or "SURVIVED"
        print(f"{number}/{len(mutations)} {mutation.file}: {mutation.new} → {say}", flush=True)
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """The results as rows of a Markdown table, survivors last."""
    rows = ["| file | was | became | killed by | s |", "| --- | --- | --- | --- | ---: |"]
    for one in sorted(found, key=lambda one: (not one["killed_by"], one["file"])):
        killed = one["killed_by"].removeprefix("tests/")
        said = killed or f"SURVIVED {one['reason']}".strip()
        old, new = (one[name].replace("|", "\\|") for name in ("old", "new"))
        rows.append(f"| {one['file']} | `{old}` | `{new}` | {said} | {one['seconds']:.0f} |")
    return "\n".join(rows)
