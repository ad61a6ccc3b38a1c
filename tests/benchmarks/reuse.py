"""What a shuffle adds to training, and a model to a pass: `python -m tests.benchmarks.reuse`.

Prints a line of JSON for each benchmark and case: a ratio, its aim, and what was measured.

- `shuffle_share_of_step`: what the shuffle of a batch takes, of the time of a training step (batch
  from the loader, placed, and the update): the median difference of interleaved pairs of the data
  transformation with and without it. Where images are not augmented all of them are shuffled once
  when a run starts, and `ratio` is that time over the time of all of the run's steps. A whole step
  with the shuffle over one without is beside it, `step_over_plain`, which noise makes less exact.
- `models_in_one_pass`: what several models answer, collected in one pass, over as many bare jitted
  forward passes of each.

Where other work shares the cores, times say little.
"""

import argparse
import dataclasses
import functools
import statistics
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tests.benchmarks import core, timing, training
from tlx import config
from tlx.adapters import linen
from tlx.analyses.function import predictions
from tlx.data import examples
from tlx.data.labelled import ArraySource
from tlx.data.sources import register_source
from tlx.data.transform import transform
from tlx.train.spec import RunSpec

BENCHMARKS = ("shuffle", "models")
AUGMENT = ("flip", "crop")
SHUFFLES = {"mini": ("block:8", "block:1", "pixel"), "imagenet": ("block:56", "block:1", "pixel")}
MODELS = 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    parser.add_argument("--net", nargs="+", choices=SHUFFLES, default=tuple(SHUFFLES))
    parser.add_argument("--repeats", type=int, default=120, help="pairs of steps of the mini's net")
    args = parser.parse_args()
    if "shuffle" in args.only:
        register_source("noise", functools.cache(noise))
        for net in args.net:
            shuffle_share(spec_of(net, SHUFFLES[net][0], ()), net, args.repeats)
            for shuffle in SHUFFLES[net]:
                shuffle_share(spec_of(net, shuffle, AUGMENT), net, args.repeats)
    if "models" in args.only:
        for batch in (64, 256):
            models_in_one_pass(batch, max(1, args.repeats // 10))


def noise(split: str) -> ArraySource:
    images = np.random.default_rng(0).integers(0, 256, (64, 224, 224, 3), np.uint8)
    return ArraySource("noise", split, images, np.arange(64) % 10, 10)


def spec_of(net: str, shuffle: str, augment: tuple[str, ...]) -> RunSpec:
    """The mini's run from random weights; or a ResNet-18 of a quarter of the width, 224×224×3."""
    spec = config.build(RunSpec, config.load("configs/mini.py:scratch"))
    data = dataclasses.replace(spec.data, shuffle=shuffle, augment=augment)
    if net == "mini":
        return dataclasses.replace(spec, data=data)
    statistics_of = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    data = dataclasses.replace(
        data, name="noise", train_size=None, image_size=224, channels=3, **statistics_of
    )
    model = dataclasses.replace(spec.model, name="fixup_resnet18", options={"width": 16})
    return dataclasses.replace(spec, data=data, model=model)


def shuffle_share(spec: RunSpec, net: str, repeats: int) -> None:
    plain = dataclasses.replace(spec, data=dataclasses.replace(spec.data, shuffle="none"))
    pairs = repeats if net == "mini" else max(3, repeats // 40)
    steps = _interleaved(_steps(spec), _steps(plain), pairs)
    runs = [functools.partial(_inputs, s, _batch(s)) for s in (spec, plain)]
    direct = _interleaved(runs[0], runs[1], max(pairs, repeats // 4))
    seconds = statistics.median(a - b for a, b in direct)
    step_seconds = statistics.median(b for _, b in steps)
    share = seconds / step_seconds
    if not spec.data.augment:
        source = examples.load(spec.data, "train")
        share *= len(source.labels) / spec.data.batch_size / spec.num_steps
    timing.emit(
        benchmark="shuffle_share_of_step",
        ratio=round(share, 5),
        aim=0.02,
        net=net,
        shuffle=spec.data.shuffle,
        shuffled="each step" if spec.data.augment else "once",
        shuffle_ms=round(1e3 * seconds, 4),
        step_ms=round(1e3 * step_seconds, 3),
        step_over_plain=round(statistics.median(a / b for a, b in steps), 4),
        pairs=pairs,
    )


def _steps(spec: RunSpec) -> Callable[[], Any]:
    """A function that makes one training step, as the loop does."""
    batches, step = training.make(spec)
    return lambda: step(next(batches))


def _batch(spec: RunSpec) -> np.ndarray:
    data = spec.data
    shape = (data.batch_size, data.image_size, data.image_size, data.channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _inputs(spec: RunSpec, images: np.ndarray) -> jax.Array:
    key = jax.random.key(0) if spec.data.augment else None
    return transform(spec.data, key, images, rows=np.arange(len(images), dtype=np.int32))


def _interleaved(
    one: Callable[[], Any], other: Callable[[], Any], pairs: int
) -> list[tuple[float, float]]:
    """Seconds of pairs of calls, whose order alternates; both are called twice before."""
    jax.block_until_ready([one(), other(), one(), other()])
    found = []
    for i in range(pairs):
        if i % 2:
            first = timing.seconds(one)
            found.append((first, timing.seconds(other)))
        else:
            first = timing.seconds(other)
            found.append((timing.seconds(one), first))
    return found


def models_in_one_pass(batch: int, repeats: int) -> None:
    module, params, stream, batches = core.setup("small", batch)
    apply_fn, _ = linen.adapt(module, params[0])
    trees = [params[i % 2] for i in range(MODELS)]
    forward = jax.jit(apply_fn)

    def ours():
        return predictions.collect([(apply_fn, p) for p in trees], stream).answers

    def bare():
        return [forward(p, x) for x in batches for p in trees]

    found = timing.ratio(ours, bare, repeats=repeats)
    facts = {"models": MODELS, "images": core.IMAGES, "batch": batch}
    timing.emit(benchmark="models_in_one_pass", aim=1.1, **found, **facts)


if __name__ == "__main__":
    main()
