"""What a trained run brings to an analysis: weights, the function they are of, and images."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from tlx import checkpoints
from tlx.adapters import linen
from tlx.core import metrics
from tlx.core.types import ApplyFn, FeatureFn, Metric, Params, PerExampleFn, Stream
from tlx.data import loader
from tlx.studies import keys
from tlx.studies.runs import Run
from tlx.train.job import make_module
from tlx.train.losses import make_loss
from tlx.train.step import make_apply_fn

LOSSES: Mapping[str, Mapping[str, PerExampleFn]] = {
    "softmax": {"loss": metrics.softmax_cross_entropy, "error": metrics.error},
    "multilabel": {"loss": metrics.sigmoid_cross_entropy, "error": metrics.sigmoid_error},
}


def params(run: Run, step: int | None = None) -> Params:
    """The variables of a run after a step, by default its last: all that decides its outputs."""
    step = run.spec.num_steps if step is None else step
    return _restored(run.workdir, step, keys.weights_at(run, step))


def weights(run: Run, step: int | None = None) -> Params:
    """Those of `params` that are trained: {"params": …}, without batch statistics.

    For distances and movement: a running variance may be any number, and says what the data are.
    """
    return {"params": params(run, step)["params"]}


@functools.lru_cache(maxsize=6)  # P, two P-T and two RI-T are asked about again and again
def _restored(workdir: Path, step: int, _identity: str) -> Params:
    return checkpoints.restore(workdir, step)


def apply_fn(run: Run) -> ApplyFn:
    """The function that the run was evaluated with."""
    return make_apply_fn(make_module(run.spec))


def features(run: Run) -> FeatureFn:
    """The function from variables and images to the features of each layer."""
    return linen.features(make_module(run.spec))


def modules(run: Run) -> list[str]:
    """The modules of a run's model, from the input to the head."""
    return list(make_module(run.spec).module_names)


def num_classes(run: Run) -> int:
    """The classes of a run's data."""
    return make_module(run.spec).num_classes


def penultimate_layer(run: Run) -> str:
    """The last layer before the logits."""
    return str(list(jax.eval_shape(features(run), params(run), first_inputs(run)))[-2])


def stream(run: Run, split: str = "test", batch_size: int | None = None) -> Stream:
    """A run's examples in evaluation form."""
    data = run.spec.data
    if batch_size is not None:
        data = dataclasses.replace(data, eval_batch_size=batch_size)
    return loader.eval_stream(data, split)


def first_inputs(run: Run) -> np.ndarray:
    """The first batch of a run's test images."""
    return next(iter(stream(run)()))["inputs"]


def images(run: Run, rows: Sequence[int], split: str = "test") -> np.ndarray:
    """uint8 [n, S, S, C], some of a run's examples as they are before normalisation."""
    spec = run.spec.data
    source = loader.load(spec, split)
    if isinstance(source, loader.Arrays):
        given = source.images[np.asarray(rows, np.int64)]
    else:
        given = np.array([source.decode(int(row), spec)["images"] for row in rows])
    if given.dtype == np.float32:
        given = np.rint(255 * given)
    shape = (spec.image_size, spec.image_size, spec.channels)
    return given.astype(np.uint8).reshape(len(rows), *shape)


def num_examples(run: Run, split: str = "test") -> int:
    """The number of a run's examples, those included whose image cannot be read."""
    return int(loader.data_key(run.spec.data, split)["count"])


def num_readable(run: Run, split: str = "test") -> int:
    """The number of those that count: where images may be unreadable, they are gone through."""
    if not run.spec.data.max_bad:
        return num_examples(run, split)
    return sum(int(np.sum(batch["mask"])) for batch in stream(run, split)())


def losses(run: Run) -> Mapping[str, PerExampleFn]:
    """What one example is judged by: "loss" in nats and "error", by the run's own loss."""
    return LOSSES[run.spec.loss]


def metric(run: Run) -> Metric:
    """Loss, accuracy and count, by the run's own loss."""
    return make_loss(run.spec.loss).metric()


def chunk() -> int | Literal["auto"]:
    """The points of a path that a question evaluates together; see `tlx.core.evaluate_path`.

    One on CPU: "auto" goes by how fast the machine happens to be, and a width changes roundings, so
    that a study that was interrupted would not end with the records of one that was not. XLA's own
    choices go by time on accelerators, where wider is faster.
    """
    return 1 if jax.default_backend() == "cpu" else "auto"


def layer_name(leaf: str) -> str:
    """The layer of a kernel: its leaf's name without the collection and the last part."""
    return leaf.split("/", 1)[1].removesuffix("/kernel")
