"""Each notebook's text form runs from end to end, as it stands and without a study at hand.

What a notebook would download is put where it looks first.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.helpers import torch_zip
from tests.helpers.torch_names import fill
from tlx import models
from tlx.models import torch_names

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.py"))


STEPS = ("paper_figure",)
"""Notebooks whose programs run longer than they are compiled."""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path):
    # two folders down, so that its relative paths lead to no study of this clone
    folder = tmp_path / "clone" / "colabs"
    folder.mkdir(parents=True)
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "MPLBACKEND": "agg",
        "TMPDIR": str(tmp_path),
        "TORCH_HOME": str(tmp_path / "torch"),
    }
    if path.stem in STEPS:
        environment.pop("JAX_DISABLE_MOST_OPTIMIZATIONS", None)
    if path.stem == "two_checkpoints":
        torchvision_files(tmp_path / "torch" / "hub" / "checkpoints")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    SAID[path.stem](done.stdout)
    assert not list(tmp_path.rglob("*.part"))  # nothing was downloaded


CHANGED = ("features.3.", "classifier.")
"""What of the second file is drawn anew: a block and the head."""


def torchvision_files(folder: Path):
    """Two files with the names and the layout of torchvision's MobileNetV2, of ten classes."""
    folder.mkdir(parents=True)
    net = models.make("mobilenet_v2", num_classes=10)
    like = jax.eval_shape(net.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    ones = torch_names.to_torch(net, jax.tree.map(lambda x: np.ones(x.shape, x.dtype), like))
    for file, changed in (("b0353104", ()), ("7ebf99e0", CHANGED)):
        tensors = {
            name: fill(name, x.shape, int(name.startswith(changed))) if x.ndim > 1 else x
            for name, x in ones.items()
        }
        torch_zip.save(folder / f"mobilenet_v2-{file}.pth", torch_zip.tensors(tensors))


def first_look(said):
    assert "a small one is run into runs/first_look" in said
    assert re.search(r"Two share a basin\? +yes +no +agrees", said)
    assert "Two P-T are connected without a barrier" in said
    assert "Two RI-T are connected only across a barrier" in said
    barriers = of_lines(said)
    assert barriers["two P-T"] < 0.1 < barriers["two RI-T"]
    assert "two P-T: in one basin? yes" in said
    assert "two RI-T: in one basin? no" in said


def your_models(said):
    barriers = of_lines(said)
    assert set(barriers) == {"Linen", "NNX", "Equinox", "Haiku"}
    assert min(barriers.values()) > 0.05


def paper_figure(said):
    assert "P-T learns faster at every block size: as in the paper" in said
    rows = re.findall(r"^(1|4|whole) +([\d.]+) \[.*?\]% +([\d.]+) \[", said, re.MULTILINE)
    gain = {size: float(p_t) - float(ri_t) for size, p_t, ri_t in rows}
    assert gain["whole"] > 2
    assert abs(gain["1"]) < 3  # nothing is left of it where the pixels are shuffled
    assert re.search(r"^real +16 +9 ", said, re.MULTILINE)  # the paper's


def two_checkpoints(said):
    assert "downloading" not in said
    assert "stage2_block2 and head of mobilenet_v2-7ebf99e0 have nothing of" in said
    assert "everything else is the same" in said
    assert re.search(r"^stage2_block2 +[\d.]+ +unrelated$", said, re.MULTILINE)
    assert re.search(r"^stage2_block1 +0 +the same$", said, re.MULTILINE)


SAID = {
    "first_look": first_look,
    "your_models": your_models,
    "paper_figure": paper_figure,
    "two_checkpoints": two_checkpoints,
}


def of_lines(said):
    """The barrier in each line that states one, by how the line begins."""
    return {
        line.split(":")[0]: float(line.split("barrier ")[1].split(" ")[0])
        for line in said.splitlines()
        if "barrier " in line and ":" in line
    }
