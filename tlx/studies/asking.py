"""What a question of a study is, how it is asked, and what questions are asked of.

A question's key holds what decides its answer (the weights by the identity of their origin, the
data by their content, and the question's own version number), so that a question asked again is
found and not computed.
"""

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import numpy as np

import tlx
from tlx import checkpoints, records
from tlx.core import auc, metrics
from tlx.core.types import ApplyFn, Metric, Params, PerExampleFn, Stream
from tlx.data import loader
from tlx.studies import versions
from tlx.studies.plan import Pair, Run
from tlx.train import serial
from tlx.train.job import make_module
from tlx.train.losses import make_loss
from tlx.train.step import make_apply_fn

LOSSES: Mapping[str, Mapping[str, PerExampleFn]] = {
    "softmax": {"loss": metrics.softmax_cross_entropy, "error": metrics.error},
    "multilabel": {"loss": metrics.sigmoid_cross_entropy, "error": metrics.sigmoid_error},
}


CONFIDENCE = 0.95
"""Of all intervals."""

_SHOWN = 4  # differences in a message


class Question(NamedTuple):
    """A question with what decides its answer.

    Attributes:
      name: the kind of record: "curves", "interpolation" …
      inputs: names and kinds of the runs.
      options: of the analysis.
      data: identities of the weights and of the examples. (The version number, which is in the
        key too, is that of the name in `tlx.studies.versions`.)
      answer: computes the results, arrays by name.
    """

    name: str
    inputs: Mapping[str, Any]
    options: Mapping[str, Any]
    data: Mapping[str, Any]
    answer: Callable[[], Mapping[str, Any]]


def ask(root: Path, question: Question) -> tuple[records.Record, bool]:
    """The record that answers a question, and whether it had to be computed.

    A record of the same question about the same runs that was answered for other weights, other
    data or by another version of the question is set aside, and what differs is told on the log.
    """
    version = versions.of(question.name)
    key = {
        "options": question.options,
        "inputs": question.inputs,
        "data": question.data,
        "version": version,
    }
    found = records.find(root, question.name, key)
    if found is not None:
        return found, False
    outdated = records.outdated(root, question.name, key)
    for there in outdated.values():
        _tell_outdated(question, there, records.plain(key))
    started = time.perf_counter()
    results = {name: np.asarray(value) for name, value in question.answer().items()}
    meta = {"seconds": round(time.perf_counter() - started, 3), "versions": packages()}
    record = records.make_record(
        question.name,
        inputs=question.inputs,
        options=question.options,
        data=question.data,
        results=results,
        version=version,
        meta=meta,
    )
    for path in outdated:
        records.set_aside(path)
    records.save(root, record)
    return record, True


def _tell_outdated(question: Question, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    old, new = (
        {name: key[name] for name in ("version", "options", "data") if name in key}
        for key in (there, here)
    )
    lines = serial.differences(old, new)
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    about = ", ".join(f"{name} {value}" for name, value in question.inputs.items())
    logging.getLogger("tlx").warning(
        "%s (%s) is answered anew, since its record differs: %s%s",
        question.name,
        about,
        "; ".join(lines[:_SHOWN]),
        more,
    )


def packages() -> dict[str, str]:
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
    data["examples"] = examples_of(pair.a)
    if on_data:
        inputs["split"] = "test"
    return Question(name, inputs, options, data, answer)


def data_of(runs: Sequence[Run]) -> dict[str, Any]:
    """What decides an answer about several runs on the target's examples."""
    return {run.name: identities(run) for run in runs} | {"examples": examples_of(runs[0])}


def examples_of(run: Run) -> dict[str, Any]:
    """What a run's examples are now, for a key; those of training decide batch statistics."""
    return {split: loader.data_key(run.spec.data, split) for split in ("train", "test")}


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
    step = run.spec.num_steps if step is None else step
    return _restored(run.workdir, step, checkpoints.identity(checkpoints.origin(run.workdir, step)))


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
        return metrics.combine({"mean": auc.ranking(num_examples, num_classes), **each})
    return metrics.combine({"mean": make_loss(loss).metric(), **each})
