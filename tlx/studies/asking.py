"""What a question of a study is, how it is asked, and what questions are asked of.

A question's key holds what decides its answer (the weights by the identity of their origin,
the data by their fingerprint), so that a question asked again is found and not computed.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import numpy as np

import tlx
from tlx import checkpoints, records
from tlx.core import metrics
from tlx.core.types import ApplyFn, Metric, Params, PerExampleFn, Stream
from tlx.data import loader
from tlx.studies.plan import Pair, Run
from tlx.train.job import make_module
from tlx.train.losses import make_loss
from tlx.train.step import make_apply_fn

LOSSES: Mapping[str, Mapping[str, PerExampleFn]] = {
    "softmax": {"loss": metrics.softmax_cross_entropy, "error": metrics.error},
    "multilabel": {"loss": metrics.sigmoid_cross_entropy, "error": metrics.sigmoid_error},
}


CONFIDENCE = 0.95
"""Of all intervals."""


class Question(NamedTuple):
    """A question with what decides its answer.

    Attributes:
      name: the kind of record: "curves", "interpolation" …
      inputs: names and kinds of the runs.
      options: of the analysis.
      data: identities of the weights and of the examples.
      answer: computes the results, arrays by name.
    """

    name: str
    inputs: Mapping[str, Any]
    options: Mapping[str, Any]
    data: Mapping[str, Any]
    answer: Callable[[], Mapping[str, Any]]


def ask(root: Path, question: Question) -> tuple[records.Record, bool]:
    """The record that answers a question, and whether it had to be computed."""
    key = {"options": question.options, "inputs": question.inputs, "data": question.data}
    found = records.find(root, question.name, key)
    if found is not None:
        return found, False
    started = time.perf_counter()
    results = {name: np.asarray(value) for name, value in question.answer().items()}
    meta = {"seconds": round(time.perf_counter() - started, 3), "versions": versions()}
    record = records.make_record(
        question.name,
        inputs=question.inputs,
        options=question.options,
        data=question.data,
        results=results,
        meta=meta,
    )
    records.save(root, record)
    return record, True


def versions() -> dict[str, str]:
    """The versions of what computes the numbers, and the kind of device."""
    return {
        "tlx": tlx.__version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "numpy": np.__version__,
        "device": jax.devices()[0].device_kind,
    }


def between(
    name: str,
    pair: Pair,
    options: Mapping[str, Any],
    answer: Callable[[], Mapping[str, Any]],
    *,
    on_data: bool = True,
) -> Question:
    """A question of two runs, on the target's test examples unless it is of weights alone."""
    inputs: dict[str, Any] = {
        "a": pair.a.name,
        "b": pair.b.name,
        "kind_a": pair.a.kind,
        "kind_b": pair.b.kind,
        "pair": f"{pair.a.kind} / {pair.b.kind}",
        "shuffle": pair.a.shuffle,
    }
    data: dict[str, Any] = {"a": identities(pair.a), "b": identities(pair.b)}
    if on_data:
        inputs["split"] = "test"
        data["examples"] = loader.data_key(pair.a.spec.data, "test")
    return Question(name, inputs, options, data, answer)


def data_of(runs: Sequence[Run]) -> dict[str, Any]:
    """What decides an answer about several runs on the target's test examples."""
    examples = loader.data_key(runs[0].spec.data, "test")
    return {run.name: identities(run) for run in runs} | {"examples": examples}


def identities(run: Run) -> dict[str, Any]:
    """What a run's weights are, for a key."""
    return {"weights": checkpoints.identity(checkpoints.origin(run.workdir, run.spec.num_steps))}


def identities_by_step(run: Run) -> dict[str, Any]:
    """What the weights of all checkpoints of a run are, by step, for a key."""
    return {
        str(step): checkpoints.identity(checkpoints.origin(run.workdir, step))
        for step in checkpoints.steps(run.workdir)
    }


def params(run: Run, step: int | None = None) -> Params:
    """The variables of a run after a step, by default its last: all that decides its outputs."""
    return _restored(run.workdir, run.spec.num_steps if step is None else step)


def weights(run: Run, step: int | None = None) -> Params:
    """Those of `params` that are trained: {"params": …}, without batch statistics.

    For distances and movement: a running variance may be any number, and says what the data are.
    """
    return {"params": params(run, step)["params"]}


@functools.lru_cache(maxsize=6)  # P, two P-T and two RI-T are asked about again and again
def _restored(workdir: Path, step: int) -> Params:
    return checkpoints.restore(workdir, step)


def apply_fn(run: Run) -> ApplyFn:
    """The function that the run was evaluated with."""
    return make_apply_fn(make_module(run.spec))


def stream(run: Run, split: str = "test", batch_size: int | None = None) -> Stream:
    """A run's examples in evaluation form."""
    data = run.spec.data
    if batch_size is not None:
        data = dataclasses.replace(data, eval_batch_size=batch_size)
    return loader.eval_stream(data, split)


def images(run: Run, rows: Sequence[int], split: str = "test") -> np.ndarray:
    """uint8 [n, S, S, C], some of a run's examples as they are before normalisation."""
    spec = run.spec.data
    found = loader.load(spec, split)
    if isinstance(found, loader.Arrays):
        given = found.images[np.asarray(rows, np.int64)]
    else:
        given = np.array([found.decode(int(row), spec)["images"] for row in rows])
    if given.dtype == np.float32:
        given = np.rint(255 * given)
    shape = (spec.image_size, spec.image_size, spec.channels)
    return given.astype(np.uint8).reshape(len(rows), *shape)


def num_examples(run: Run, split: str = "test") -> int:
    """The number of a run's examples."""
    return int(loader.data_key(run.spec.data, split)["count"])


def losses(run: Run) -> Mapping[str, PerExampleFn]:
    """What one example is judged by: "loss" in nats and "error", by the run's own loss."""
    return LOSSES[run.spec.loss]


def metric(run: Run) -> Metric:
    """Loss, accuracy and count, by the run's own loss."""
    return make_loss(run.spec.loss).metric()


def layer_name(leaf: str) -> str:
    """The layer of a kernel: its leaf's name without the collection and the last part."""
    return leaf.split("/", 1)[1].removesuffix("/kernel")


@functools.cache
def mean_and_error(loss: str, num_examples: int) -> Metric:
    """The means over the examples, and the error of each."""
    error = metrics.collect(LOSSES[loss]["error"], num_examples)
    return metrics.combine({"mean": make_loss(loss).metric(), "error": error})


@functools.cache  # the same object for every line, so that compiled code is found again
def mean_and_each(loss: str, num_examples: int, num_classes: int) -> Metric:
    """The means over the examples, and what each example contributes to them.

    With several labels an image the means have their mean area under the ROC curve, `auc`.
    """
    each = {name: metrics.collect(of_one, num_examples) for name, of_one in LOSSES[loss].items()}
    if loss == "multilabel":
        return metrics.combine({"mean": metrics.ranking(num_examples, num_classes), **each})
    return metrics.combine({"mean": make_loss(loss).metric(), **each})
