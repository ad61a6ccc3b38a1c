"""What devices say to each other in a training step, counted in the compiled program."""

from pathlib import Path

import jax
import numpy as np
import pytest

from tests.helpers import compiled
from tests.train.tiny import make_spec
from tlx.core import sharding
from tlx.train import job as job_lib
from tlx.train import optim, resuming
from tlx.train.step import StepInputs

ROW = 8 * 8  # numbers in an image


def compiled_step(
    workdir: Path, mesh: jax.sharding.Mesh, batch_size: int, accumulate: int = 1
) -> tuple[object, int]:
    """The program, and the number of weights."""
    spec = make_spec(data={"batch_size": batch_size}, accumulate=accumulate)
    job = job_lib.make_job(spec, workdir, mesh, resuming.origin_of(spec))
    state = job_lib.new_state(job)
    hyper = sharding.replicate(optim.hyper_of(spec.optim), mesh)
    numbers = StepInputs(np.float32(0.1), hyper)
    lowered = job.step_fn.lower(state, next(job.batches(0)), numbers)  # type: ignore[attr-defined]
    return lowered.compile(), sum(x.size for x in jax.tree.leaves(state.params))


# the parts of an accumulated batch are a loop, whose body the text has once
@pytest.mark.parametrize(("batch_size", "accumulate"), [(64, 1), (256, 1), (256, 4)])
def test_one_all_reduce_of_the_gradients_and_none_of_activations(
    batch_size: int, accumulate: int, tmp_path: Path
) -> None:
    step, num_weights = compiled_step(tmp_path, sharding.make_mesh(), batch_size, accumulate)
    found = compiled.collectives(step)
    gradients = [one for one in found if sum(one.sizes) >= num_weights]
    assert [one.kind for one in gradients] == ["all-reduce"]
    assert sum(gradients[0].sizes) == num_weights + 2  # and loss and accuracy
    # besides: whether rows count, and one image that stands in for those that do not
    others = [one for one in found if one not in gradients]
    assert all(max(one.sizes) <= max(batch_size, ROW) for one in others), others


def test_each_device_has_its_share_of_the_work(tmp_path: Path) -> None:
    one, _ = compiled_step(tmp_path, sharding.make_mesh(jax.devices()[:1]), 256)
    four, _ = compiled_step(tmp_path, sharding.make_mesh(), 256)
    assert 0.25 <= compiled.flops(four) / compiled.flops(one) < 0.3
