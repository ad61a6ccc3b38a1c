"""Files of a run that are not what was written: never a wrong number in silence."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.train.test_damage import LEFT_BY_ORBAX
from tests.train.test_loop import Stop, assert_same_files, run, stopping_at
from tests.train.tiny import make_spec
from tlx import checkpoints, cli
from tlx.core import tree
from tlx.train import job, resuming
from tlx.train.spec import RunSpec

CONFIG = Path(__file__).with_name("tiny_run.py")
ROOT = Path(__file__).parents[2]
DRAWS = 4
"""Of each damage to each file of a checkpoint."""

Leaves = Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, Path, Path]:
    """A run that was stopped after its checkpoint of step 8, and one that was not stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    keep = {"rule": "none", "keep_best": False, "resume_every": 2}
    spec = make_spec(checkpoint=keep, eval_every=3, mixup=0.5, ema=0.9)
    run(spec, folder / "whole")
    with pytest.raises(Stop):
        run(spec, folder / "part", progress=stopping_at(9))
    return spec, folder / "part", folder / "whole"


def flip(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def zero(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes(min(64, len(data) - at)) + data[at + 64 :]


def content(workdir: Path, step: int, like: Any) -> dict[str, Leaves]:
    """All that a run would go on with."""
    return {
        "origin": {"origin": np.asarray(str(checkpoints.origin(workdir, step)))},
        "weights": tree.named_leaves(checkpoints.restore(workdir, step, as_numpy=True)),
        "resume": tree.named_leaves(checkpoints.restore_resume(workdir, step, like)),
    }


@LEFT_BY_ORBAX
def test_a_damaged_file_of_a_checkpoint_is_seen_or_does_not_matter(
    stopped: tuple[RunSpec, Path, Path], tmp_path: Path
) -> None:
    """Each file, some random damages of each kind."""
    spec, part, _ = stopped
    rng, workdir = random.Random(0), tmp_path / "run"
    shutil.copytree(part, workdir)
    state = job.new_state(job.make_job(spec, workdir, _mesh(), resuming.origin_of(spec)))
    like = resuming.resume_tree(state)
    true = content(workdir, 8, like)
    seen = dict.fromkeys((True, False), 0)
    for path in sorted(path for path in (workdir / "checkpoints/8").rglob("*") if path.is_file()):
        data = path.read_bytes()
        for damage in (flip, cut, zero):
            for _ in range(DRAWS if data else 0):
                path.write_bytes(damage(data, rng))
                try:
                    found = content(workdir, 8, like)
                except checkpoints.DamagedError:
                    seen[True] += 1
                else:
                    seen[False] += 1
                    assert not _differing(found, true), (path, damage)
        path.write_bytes(data)
    assert min(seen.values()) > 20


def _mesh() -> jax.sharding.Mesh:
    return jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])


def _differing(one: Mapping[str, Leaves], other: Mapping[str, Leaves]) -> list[str]:
    return [
        f"{item} {name}"
        for item, leaves in other.items()
        for name, leaf in leaves.items()
        if leaf.tobytes() != np.asarray(one[item][name]).tobytes()
    ]


@LEFT_BY_ORBAX
@pytest.mark.parametrize("name", ["commit_success.txt", "_CHECKPOINT_METADATA", "meta", "weights"])
def test_a_part_of_a_checkpoint_that_is_gone(
    name: str, stopped: tuple[RunSpec, Path, Path], tmp_path: Path
) -> None:
    spec, part, whole = stopped
    shutil.copytree(part, tmp_path / "run")
    path = tmp_path / "run/checkpoints/8" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    run(spec, tmp_path / "run")
    assert_same_files(tmp_path / "run", whole)


@pytest.mark.parametrize("name", ["result.json", "config.json"])
def test_a_cut_file_of_a_run_that_is_done_costs_no_training(
    name: str, stopped: tuple[RunSpec, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, _, whole = stopped
    shutil.copytree(whole, tmp_path / "run")
    path = tmp_path / "run" / name
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=f"delete {path} and give the command again"):
        run(spec, tmp_path / "run")
    path.unlink()
    monkeypatch.setattr("tlx.train.loop._Run", None)
    run(spec, tmp_path / "run")
    assert path.exists()
    assert_same_files(tmp_path / "run", whole)


def test_a_command_says_one_sentence_about_a_damaged_checkpoint(tmp_path: Path) -> None:
    words = ["train", f"--config={CONFIG}", f"--workdir={tmp_path}"]
    assert cli.main(words) == 0
    (tmp_path / "result.json").unlink()
    cut_file = tmp_path / "checkpoints/60/weights/manifest.ocdbt"
    cut_file.write_bytes(cut_file.read_bytes()[:20])
    environ = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "tlx.cli", *words],
        env=environ,
        check=False,
        capture_output=True,
        text=True,
    )
    said = done.stderr.splitlines()
    assert done.returncode == 1
    assert len(said) == 1
    assert said[0].startswith("tlx train: expected an undamaged checkpoint to continue run 'tiny'")
