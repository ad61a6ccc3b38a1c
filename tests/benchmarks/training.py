"""A run's training step, to be timed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tlx.core import sharding
from tlx.train import job as job_lib
from tlx.train import optim, resuming
from tlx.train.spec import RunSpec
from tlx.train.step import StepInputs


def make(spec: RunSpec) -> tuple[Iterator[Any], Callable[[Any], Any]]:
    """The batches of a run as its loop has them, and a function that makes a step with one."""
    mesh = sharding.make_mesh()
    job = job_lib.make_job(spec, Path("unused"), mesh, resuming.origin_of(spec))
    hyper = sharding.replicate(optim.hyper_of(spec.optim), mesh)
    state = [job_lib.new_state(job)]

    def step(batch: Any) -> Any:
        state[0], metrics = job.step_fn(state[0], batch, StepInputs(np.float32(1e-3), hyper))
        return metrics

    return job.batches(0), step
