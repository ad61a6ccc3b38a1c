"""A run is one of its data, its start and its config: never another's result or weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.train.test_loop import Stop, run, stopping_at
from tests.train.tiny import make_spec
from tlx import checkpoints
from tlx.core import evaluate
from tlx.data.loader import eval_stream
from tlx.train import job, metrics_log, resuming
from tlx.train.spec import InitFrom, RunSpec
from tlx.train.step import make_apply_fn

Image = pytest.importorskip("PIL.Image")

COUNTS = {"train": 12, "test": 6}


def make_folder(folder: Path, *, inverted: bool = False) -> Path:
    """Dark cats and bright dogs; the names are the same in every folder."""
    for split, count in COUNTS.items():
        for i in range(count):
            add(
                folder / split / ("cat", "dog")[i % 2] / f"{i}.png",
                20 + i + 150 * (i % 2),
                inverted,
            )
    return folder


def add(file: Path, value: int, inverted: bool = False) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(value, value + 30, (8, 8), np.uint8)
    Image.fromarray(255 - pixels if inverted else pixels).save(file)


def on(folder: Path, **changes: Any) -> RunSpec:
    data = {"name": "folder", "folder": str(folder), "batch_size": 4, "eval_batch_size": 8}
    given = {"num_steps": 8, "eval_every": 4, "optim": {"rate": 0.02}}
    return make_spec(data={**data, **changes.pop("data", {})}, **{**given, **changes})


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return make_folder(tmp_path / "A"), make_folder(tmp_path / "B", inverted=True)


def accuracy(workdir: Path, spec: RunSpec) -> dict[str, Any]:
    """Of a run's last weights on the test data of a spec."""
    module = job.make_module(spec)
    metric = job._metric(spec.loss, COUNTS["test"], module.num_classes)
    stream = eval_stream(spec.data, "test")
    found = evaluate(make_apply_fn(module), metric, checkpoints.restore(workdir), stream)
    return {name: float(value) for name, value in jax.device_get(found).items()}


FRESH = """
import json, sys
from pathlib import Path
from tests.train import test_identity as t
print(json.dumps(t.accuracy(Path(sys.argv[1]), t.on(Path(sys.argv[2])))))
"""


def in_a_fresh_process(workdir: Path, *folders: Path) -> list[dict[str, Any]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", FRESH, str(workdir), str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        for folder in folders
    ]
    return [json.loads(process.communicate(timeout=100)[0]) for process in started]


def test_equal_names_and_inverted_pixels_end_to_end(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    run(on(folders[0]), tmp_path / "run")
    here = [accuracy(tmp_path / "run", on(folder)) for folder in folders]
    assert [found["accuracy"] for found in here] == [1.0, 0.0]
    for mine, fresh in zip(here, in_a_fresh_process(tmp_path / "run", *folders), strict=True):
        assert mine == pytest.approx(fresh, rel=1e-6)
    other = run(on(folders[1]), tmp_path / "other")  # trained on the second, in the same process
    assert other.test["accuracy"] == 1.0
    assert accuracy(tmp_path / "other", on(folders[0]))["accuracy"] == 0.0


def contents(workdir: Path) -> dict[str, bytes]:
    files = (path for path in workdir.rglob("*") if path.is_file())
    return {str(path.relative_to(workdir)): path.read_bytes() for path in files}


@pytest.mark.parametrize("when", [3, 100])
def test_a_workdir_of_other_data_is_refused(
    when: int, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    try:
        run(on(folders[0]), workdir, progress=stopping_at(when))
    except Stop:
        assert when == 3
    before = contents(workdir)
    with pytest.raises(ValueError, match="the same run, got one with differences") as caught:
        run(on(folders[1]), workdir)
    assert contents(workdir) == before
    a, b = (
        {split: part["digest"][:12] for split, part in resuming.origin_of(on(f))["data"].items()}
        for f in folders
    )
    assert str(caught.value) == (
        f"expected {workdir} to hold the same run, got one with differences:\n"
        f"  the train data: 12 examples (content {a['train']}) there, "
        f"12 examples (content {b['train']}) here\n"
        f"  the test data: 6 examples (content {a['test']}) there, "
        f"6 examples (content {b['test']}) here\n"
        "Choose another workdir, or delete that one to train anew."
    )
    folders[0].rename(tmp_path / "moved")
    assert run(on(tmp_path / "moved"), workdir).test["accuracy"] == 1.0


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_that_were_added_between_stop_and_start(
    split: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        run(on(folders[0]), tmp_path / "run", progress=stopping_at(4))
    for i in range(3):
        add(folders[0] / split / "cat" / f"new{i}.png", 30 + i)
    count = COUNTS[split]
    told = rf"the {split} data: {count} examples \(.*\) there, {count + 3} examples \(.*\) here"
    with pytest.raises(ValueError, match=told) as caught:
        run(on(folders[0]), tmp_path / "run")
    assert str(caught.value).count("examples") == 2
    for i in range(3):
        (folders[0] / split / "cat" / f"new{i}.png").unlink()
    run(on(folders[0]), tmp_path / "run")
    counts = {(x["split"], x["count"]) for x in metrics_log.read(tmp_path / "run")}
    assert counts == {*COUNTS.items(), ("batch", 4)}


def test_what_is_held_out_is_data_too(folders: tuple[Path, Path], tmp_path: Path) -> None:
    spec = on(folders[0], data={"valid_size": 2}, num_steps=1)
    result = run(spec, tmp_path / "run")
    assert {split: part["count"] for split, part in result.origin["data"].items()} == {
        "train": 10,
        "valid": 2,
        "test": 6,
    }
    add(folders[0] / "train/cat/0.png", 99)
    with pytest.raises(ValueError, match=r"the valid data: 2 examples"):
        run(spec, tmp_path / "run")


@pytest.mark.parametrize("is_done", [True, False])
def test_a_start_that_was_trained_again(is_done: bool, tmp_path: Path) -> None:
    start = InitFrom(workdir=str(tmp_path / "P"))
    spec = make_spec(kind="P-T", init_from=start, num_steps=6)

    def train_p(seed: int) -> None:
        shutil.rmtree(tmp_path / "P", ignore_errors=True)
        run(make_spec(seed=seed, num_steps=2), tmp_path / "P")

    train_p(0)
    if is_done:
        first = run(spec, tmp_path / "T")
    else:
        with pytest.raises(Stop):
            run(spec, tmp_path / "T", progress=stopping_at(3))
    train_p(5)
    with pytest.raises(ValueError, match=r"the start: it started from 'tiny' step 2 \(config "):
        run(spec, tmp_path / "T")
    fresh = run(spec, tmp_path / "fresh")
    train_p(0)  # to the same bits
    again = run(spec, tmp_path / "T")
    assert again.test["loss"] != fresh.test["loss"]
    assert not is_done or again == first


def test_other_weights_of_the_same_config_are_another_start(tmp_path: Path) -> None:
    """As a run on another device leaves them, or one of an older version."""
    run(make_spec(num_steps=2), tmp_path / "P")
    spec = make_spec(kind="P-T", init_from=InitFrom(workdir=str(tmp_path / "P")), num_steps=1)
    run(spec, tmp_path / "T")
    origin, weights = checkpoints.origin(tmp_path / "P"), checkpoints.restore(tmp_path / "P")
    shutil.rmtree(tmp_path / "P/checkpoints/2")
    with checkpoints.Writer(tmp_path / "P", scheduled=frozenset({0, 1})) as writer:
        writer.save(2, jax.tree.map(lambda x: x * 1.5, weights), origin=origin)
    with pytest.raises(ValueError, match=r"the start: .*, weights \w+\), but now"):
        run(spec, tmp_path / "T")


def test_a_result_without_its_checkpoints_is_still_one_config_and_data(tmp_path: Path) -> None:
    first = run(make_spec(num_steps=1), tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    assert run(make_spec(num_steps=1), tmp_path) == first
    with pytest.raises(ValueError, match="seed: 0 there, 1 here"):
        run(make_spec(num_steps=1, seed=1), tmp_path)
