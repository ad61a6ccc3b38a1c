"""Each notebook's text form runs from end to end, as it stands and without a study at hand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_runs(path: Path, tmp_path: Path):
    # two folders down, so that its relative paths lead to no study of this clone
    folder = tmp_path / "clone" / "colabs"
    folder.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=folder,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg", "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    SAID[path.stem](done.stdout)


def first_look(said):
    assert "MADE-UP numbers" in said
    barriers = of_lines(said)
    assert barriers["two P-T"] < 0.1 < barriers["two RI-T"]


def your_models(said):
    barriers = of_lines(said)
    assert set(barriers) == {"Linen", "NNX", "Equinox", "Haiku"}
    assert min(barriers.values()) > 0.05


SAID = {"first_look": first_look, "your_models": your_models}


def of_lines(said):
    """The barrier in each line that states one, by how the line begins."""
    return {
        line.split(":")[0]: float(line.split("barrier ")[1].split(" ")[0])
        for line in said.splitlines()
        if "barrier " in line and ":" in line
    }
