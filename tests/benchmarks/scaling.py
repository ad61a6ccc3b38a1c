"""How training and analyses grow with devices, points, examples and parameters.

`python -m tests.benchmarks.scaling [NAME …]` prints a line of JSON for each figure:

- `devices_2_over_1_step`: a training step on two CPU devices over one, both on all cores: the
  median over interleaved pairs.
- `line_growth_in_points`, `…_in_examples`, `…_in_parameters`: the exponent p of the processor time
  of a line between two models that grows as size ** p, from the smallest to the largest of four
  sizes, each twice the one before; and of the memory that the process needs at most beyond what it
  needs at the smallest. 1 is linear, 0 is constant.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks import timing
from tlx import config
from tlx.analyses import landscape
from tlx.core import metrics, sharding, streams
from tlx.train import job as job_lib
from tlx.train import optim, resuming
from tlx.train.spec import RunSpec
from tlx.train.step import StepInputs

CONFIG = "configs/mini.py:scratch"
STEPS = 20
"""Steps in a row, awaited together, as training awaits them."""

SIZES = {"points": (16, 128), "examples": (2048, 16384), "parameters": (1 << 20, 1 << 23)}
"""The smallest and the largest, and what the others are when one of them varies: the smallest."""


def devices_2_over_1_step(repeats: int = 15) -> dict[str, Any]:
    """What two devices on the same cores cost."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    spec = config.build(RunSpec, config.load(CONFIG, ["data.batch_size=128"]))
    one, two = (_steps(spec, sharding.make_mesh(jax.devices()[:n])) for n in (1, 2))
    found = timing.ratio(two, one, repeats=repeats)
    return {"value": found.pop("ratio"), "aim": 1.1, "steps": STEPS, "config": CONFIG, **found}


def _steps(spec: RunSpec, mesh: jax.sharding.Mesh) -> Callable[[], Any]:
    """A function that does the next steps on a mesh."""
    with tempfile.TemporaryDirectory() as folder:
        job = job_lib.make_job(spec, Path(folder), mesh, resuming.origin_of(spec))
    batch = next(job.batches(0))
    numbers = StepInputs(np.float32(0), sharding.replicate(optim.hyper_of(spec.optim), mesh))
    state = [job_lib.new_state(job)]

    def steps() -> Any:
        for _ in range(STEPS):
            state[0], metrics = job.step_fn(state[0], batch, numbers)
        return metrics

    return steps


def line_growth_in(name: str) -> dict[str, Any]:
    """The exponents of time and memory in one size."""
    low, high = SIZES[name]
    sizes = [low * 2**i for i in range(round(math.log2(high / low)) + 1)]
    found = [_in_a_process({n: s[0] for n, s in SIZES.items()} | {name: size}) for size in sizes]
    seconds, peaks = ([one[key] for one in found] for key in ("seconds", "bytes"))
    steps = math.log2(high / low)
    return {
        "value": round(math.log2(seconds[-1] / seconds[0]) / steps, 3),
        "aim": 1.0,
        "memory_exponent": round(math.log2(peaks[-1] / peaks[0]) / steps, 3),
        "sizes": sizes,
        "processor_seconds": [round(x, 2) for x in seconds],
        "mebibytes": [round(x / 2**20) for x in peaks],
    }


def _in_a_process(sizes: dict[str, int]) -> dict[str, float]:
    """Processor time and memory of a line, in a process of its own, without its compilation."""
    command = [sys.executable, "-m", "tests.benchmarks.scaling", "--line", json.dumps(sizes)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(text)
    return found


def _line(points: int, examples: int, parameters: int) -> dict[str, float]:
    width, rng = math.isqrt(parameters // 4), np.random.default_rng(0)

    def apply_fn(params: Any, inputs: Any) -> Any:
        for kernel in params.values():
            inputs = jnp.tanh(inputs @ kernel)
        return inputs

    def make_params() -> Any:
        shape = (width, width)
        return {str(i): rng.standard_normal(shape, np.float32) / width**0.5 for i in range(4)}

    inputs = rng.standard_normal((examples, width), np.float32)
    stream = streams.from_arrays(inputs, rng.integers(0, width, examples), batch_size=256)
    a, b = (jax.device_put(make_params()) for _ in range(2))
    metric = metrics.classification()

    def line(num: int) -> None:
        alphas = np.linspace(0, 1, num, dtype=np.float32)
        landscape.line(apply_fn, metric, a, b, stream, alphas=alphas, chunk=1)

    line(2)
    before, began = timing.memory_bytes("current"), time.process_time()
    line(points)
    seconds = time.process_time() - began
    held = sum(x.nbytes for x in jax.tree.leaves((a, b)))
    return {"seconds": seconds, "bytes": max(timing.memory_bytes("peak") - before, 0) + held}


FIGURES: dict[str, Callable[[], dict[str, Any]]] = {
    "devices_2_over_1_step": devices_2_over_1_step,
    **{f"line_growth_in_{name}": lambda name=name: line_growth_in(name) for name in SIZES},
}


def main() -> None:
    """Prints the figures that the arguments name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIGURES))
    parser.add_argument("--line", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.line:
        print(json.dumps(_line(**json.loads(args.line))))
        return
    if unknown := sorted(set(args.names) - FIGURES.keys()):
        parser.error(f"expected some of {', '.join(FIGURES)}, got {', '.join(unknown)}")
    for name in args.names or FIGURES:
        print(json.dumps({"name": name, **FIGURES[name]()}), flush=True)


if __name__ == "__main__":
    main()
