"""What the analyses cost over bare jitted forward passes: `python -m tests.benchmarks.core`.

Prints a line of JSON for each benchmark and net: the ratio of times (median of interleaved
pairs), its aim, and the seconds of both sides. With PyTorch
(`pip install '.[benchmark]'`) also our nets against the same nets in PyTorch.
"""

import argparse
import functools

import jax
import numpy as np

from tests.benchmarks import models as model_benchmarks
from tests.benchmarks import timing
from tlx import models
from tlx.adapters import linen
from tlx.analyses.landscape import interpolation
from tlx.core import metrics, streams

IMAGES = 512
NETS = {
    "small": {"name": "fixup_resnet", "width": 8, "stage_sizes": (1, 1, 1), "stem": "small"},
    "fixup_resnet18": {"name": "fixup_resnet18"},
}
CHANNELS = {"small": 1, "fixup_resnet18": 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11, help="pairs of runs a ratio")
    parser.add_argument("--net", choices=NETS, help="this net only")
    args = parser.parse_args()
    for net in [args.net] if args.net else NETS:
        for batch in (64, 128):
            line_point(net, batch, args.repeats)
    if args.net is None:
        model_benchmarks.run(timing.emit)


def setup(net: str, batch: int):
    """Module, two models' variables, a stream, and its batches on the device."""
    module = models.make(num_classes=10, head_init="uniform", **NETS[net])
    rng = np.random.default_rng(0)
    shape = (IMAGES, 32, 32, CHANNELS[net])
    inputs = rng.standard_normal(shape).astype(np.float32)
    labels = rng.integers(0, 10, len(inputs))
    init = jax.jit(module.init)
    params = [dict(init(jax.random.key(seed), inputs[:1])) for seed in range(2)]
    stream = streams.from_arrays(inputs, labels, batch_size=batch)
    return module, params, stream, [jax.device_put(b["inputs"]) for b in stream()]


def line_point(net: str, batch: int, repeats: int, num_points: int = 11) -> None:
    """A point of a line over a bare jitted forward pass on the same batches."""
    module, (a, b), stream, batches = setup(net, batch)
    apply_fn, _ = linen.adapt(module, a)
    alphas = np.linspace(0, 1, num_points, dtype=np.float32)
    line = functools.partial(
        interpolation.line, apply_fn, metrics.classification(), a, b, stream, alphas=alphas
    )
    forward = jax.jit(apply_fn)

    def bare():
        return [forward(a, x) for _ in range(num_points) for x in batches]

    found = timing.ratio(lambda: line().results, bare, repeats=repeats)
    facts = {"net": net, "points": num_points, "images": IMAGES, "batch": batch}
    timing.emit(benchmark="line_point_over_forward", aim=1.05, **found, **facts)


if __name__ == "__main__":
    main()
