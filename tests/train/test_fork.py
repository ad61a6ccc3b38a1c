"""Copies of a run that part at a step."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.train import tiny
from tlx import checkpoints
from tlx.core import tree
from tlx.core.sharding import make_mesh
from tlx.train import optim
from tlx.train.loop import train
from tlx.train.spec import ForkSpec, OptimSpec, digest
from tlx.train.state import forked, make_state

STEP, LAST = 3, 6


def make_spec(**changes):
    every = {"rule": "none", "steps": tuple(range(LAST + 1)), "resume_every": 1}
    return tiny.make_spec(**{"num_steps": LAST, "eval_every": LAST, "checkpoint": every, **changes})


def run(spec, folder, **options):
    return train(spec, folder, mesh=make_mesh(jax.devices()[:1]), **options)


def leaves(folder, step):
    return tree.named_leaves(checkpoints.restore(folder, step, as_numpy=True))


def same(a: Path, b: Path, step: int) -> bool:
    left, right = leaves(a, step), leaves(b, step)
    assert left.keys() == right.keys()
    return all(np.array_equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    run(make_spec(), folder)
    return folder


@pytest.mark.parametrize("changes", [{"seed": 9}, {"seed": 0, "noise": 0.1}], ids=str)
def test_copies_are_the_same_until_they_part(plain, tmp_path, changes):
    spec = make_spec(fork=ForkSpec(step=STEP, **changes))
    run(spec, tmp_path)
    assert [same(plain, tmp_path, step) for step in range(LAST + 1)] == [True] * (STEP + 1) + [
        False
    ] * (LAST - STEP)
    assert digest(spec) != digest(make_spec())


@pytest.mark.parametrize("stop", [STEP - 1, STEP, STEP + 1])
def test_a_copy_that_was_stopped_goes_on_as_it_would_have(tmp_path, stop):
    """Also where it was stopped right before it parts, or right after."""
    spec = make_spec(mixup=0.2, fork=ForkSpec(step=STEP, seed=9, noise=0.1))
    run(spec, tmp_path / "whole")

    def stopping(step, num_steps, numbers):
        if step > stop:
            raise KeyboardInterrupt

    logged = dataclasses.replace(spec, log_every=1)
    run(logged, tmp_path / "logged")
    with pytest.raises(KeyboardInterrupt):
        run(logged, tmp_path / "stopped", progress=stopping)
    assert max(checkpoints.steps(tmp_path / "stopped")) < LAST
    run(logged, tmp_path / "stopped")
    for step in range(LAST + 1):
        assert same(tmp_path / "logged", tmp_path / "stopped", step)
        assert same(tmp_path / "whole", tmp_path / "stopped", step)


def test_at_step_0_without_noise_it_is_the_start_with_another_order(plain, tmp_path):
    """The order of the other seed, and so the examples of its run."""
    run(make_spec(fork=ForkSpec(step=0, seed=9)), tmp_path / "fork")
    assert same(plain, tmp_path / "fork", 0)
    run(make_spec(seed=9, init_from=None), tmp_path / "other")
    assert not same(tmp_path / "other", tmp_path / "fork", 0)
    run(make_spec(fork=ForkSpec(step=0, seed=9)), tmp_path / "again")
    assert same(tmp_path / "again", tmp_path / "fork", LAST)


def test_noise_is_a_share_of_each_tensor_and_of_its_own(tmp_path):
    start = make_spec()
    still = OptimSpec(rate=1e-30, momentum=0.0, weight_decay=0.0)
    spec = dataclasses.replace(start, optim=still, fork=ForkSpec(step=0, seed=9, noise=0.5))
    run(spec, tmp_path)
    before, after = leaves(tmp_path, 0), leaves(tmp_path, LAST)
    moved = {name for name in before if before[name].any()}
    assert len(moved) == 2  # biases are 0, and so is their noise
    assert all(abs(after[name]).max() < 1e-20 for name in before if name not in moved)
    for name in moved:
        drawn = (after[name] - before[name]) / (0.5 * np.sqrt(np.mean(before[name] ** 2)))
        assert abs(drawn).max() < 6
        if drawn.size >= 64:
            assert abs(drawn.mean()) < 5 / np.sqrt(drawn.size)
            assert abs(drawn.std() - 1) < 5 / np.sqrt(2 * drawn.size)


def test_frozen_modules_have_no_noise():
    variables = {"params": {"stem": {"kernel": np.ones((3, 4), np.float32)},
                            "head": {"kernel": np.ones((4, 2), np.float32)}}}  # fmt: skip
    state = make_state(variables, optim.static_of(OptimSpec(rate=0.1, freeze=("stem",))), 0)
    after = forked(state, jax.random.key(3), 0.5, ("stem",))
    assert (after.params["stem"]["kernel"] == 1).all()
    assert (after.params["head"]["kernel"] != 1).all()
    other = make_state(variables, optim.static_of(OptimSpec(rate=0.1, freeze=("stem",))), 3)
    assert (jax.random.key_data(after.key) == jax.random.key_data(other.key)).all()


@pytest.mark.parametrize(
    ("fork", "message"),
    [
        (ForkSpec(step=LAST, seed=9), "fork.step: expected a step before num_steps"),
        (ForkSpec(step=0, seed=0), "fork.seed: expected another one than seed"),
        (ForkSpec(step=-1, seed=9), "fork.step"),
        (ForkSpec(step=0, seed=9, noise=-0.1), "fork.noise"),
    ],
)
def test_what_is_no_fork(fork, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(make_spec(fork=fork), tmp_path / "run")
    assert not (tmp_path / "run").exists()
