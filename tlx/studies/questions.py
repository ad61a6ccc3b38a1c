"""The questions of a study: each is asked of runs and answered into a record.

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
import jax.numpy as jnp
import numpy as np

import tlx
from tlx import checkpoints, records
from tlx.adapters import linen
from tlx.analyses import agreement, distances, interpolation, similarity
from tlx.core import labels
from tlx.core.types import ApplyFn, Params, Stream
from tlx.data import loader
from tlx.studies.plan import Pair, Run
from tlx.studies.spec import StudySpec
from tlx.train import metrics_log
from tlx.train.job import make_module
from tlx.train.losses import make_loss
from tlx.train.step import make_apply_fn
from tlx.train.workdir import read_result

HEAD = "head"


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


def curves(run: Run) -> Question:
    """Learning curves of a run: clean test and training accuracy and loss by step."""

    def answer() -> dict[str, Any]:
        lines = metrics_log.read(run.workdir)
        test = [line for line in lines if line["split"] == "test"]
        train = [line for line in lines if line["split"] == "train"]
        return {
            "step": [line["step"] for line in test],
            "test_accuracy": [line["accuracy"] for line in test],
            "test_loss": [line["loss"] for line in test],
            "train_accuracy": [line["accuracy"] for line in train],
            "train_loss": [line["loss"] for line in train],
            "num_test": test[-1]["count"],
            "num_train": train[-1]["count"],
            "train_size": train[-1]["count"],
        }

    inputs = {
        "run": run.name,
        "kind": run.kind,
        "shuffle": run.shuffle,
        "replicate": run.replicate,
        "target": run.spec.data.name,
    }
    return Question("curves", inputs, {}, _identities(run), answer)


def line(pair: Pair, num_alphas: int) -> Question:
    """Loss and accuracy on the target's test set along the line between two runs."""

    def answer() -> dict[str, Any]:
        alphas = np.linspace(0, 1, num_alphas, dtype=np.float32)
        found = interpolation.line(
            _apply_fn(pair.a),
            make_loss(pair.a.spec.loss).metric(),
            _params(pair.a),
            _params(pair.b),
            _test_stream(pair.a),
            alphas=alphas,
        ).results
        loss = {kind: interpolation.barrier(alphas, found["loss"], kind=kind).height
                for kind in interpolation.KINDS}  # fmt: skip
        dip = interpolation.barrier(alphas, -found["accuracy"], kind="chord")
        return {
            "alphas": alphas,
            "loss": found["loss"],
            "accuracy": found["accuracy"],
            "count": found["count"][0],
            "barrier_chord": loss["chord"],
            "barrier_endpoint_mean": loss["endpoint_mean"],
            "accuracy_barrier": dip.height,
        }

    return _between("interpolation", pair, {"num_alphas": num_alphas}, answer)


def alignment(pair: Pair, batch_size: int) -> Question:
    """Kernel alignment of all layers of two runs on the target's test set."""

    def answer() -> dict[str, Any]:
        found = similarity.cka_matrix(
            linen.features(make_module(pair.a.spec)),
            _params(pair.a),
            linen.features(make_module(pair.b.spec)),
            _params(pair.b),
            _test_stream(pair.a, batch_size),
        )
        return {
            "layers_a": list(found.layers_x),
            "layers_b": list(found.layers_y),
            "debiased": found.debiased,
            "biased": found.biased,
            "count": found.num_examples,
            "num_left_out": found.num_left_out,
        }

    return _between("similarity", pair, {"batch_size": batch_size}, answer)


def distance(pair: Pair) -> Question:
    """Distances in parameter space by module and in total.

    The totals leave the head out: that of P is for another task than that of its partner.
    """

    def answer() -> dict[str, Any]:
        a, b = _params(pair.a), _params(pair.b)
        by_name = labels.from_names(a, _module_of)
        every = list(make_module(pair.a.spec).module_names)
        body = [name for name in every if name != HEAD]
        shared = body if "P" in (pair.a.kind, pair.b.kind) else every
        by_module = distances.by_module(a, b, by_name, modules=shared)
        total = distances.by_module(a, b, by_name, modules=body)
        return {
            "modules": list(by_module.modules),
            "l2": by_module.l2,
            "relative": by_module.relative,
            "cosine": by_module.cosine,
            "total_l2": total.total_l2,
            "total_sum_of_tensor_norms": total.total_sum_of_tensor_norms,
        }

    return _between("distances", pair, {"totals_without": [HEAD]}, answer, on_data=False)


def mistakes(pair: Pair) -> Question:
    """Which test examples two runs get wrong together and alone, by class."""

    def answer() -> dict[str, Any]:
        classes = make_module(pair.a.spec).num_classes
        found = agreement.mistakes(
            _apply_fn(pair.a),
            _params(pair.a),
            _apply_fn(pair.b),
            _params(pair.b),
            _test_stream(pair.a),
            num_classes=classes,
        )
        fields = ("common", "only_a", "only_b", "neither", "accuracy_a", "accuracy_b", "kappa")
        counts = {name: getattr(found, name) for name in fields}
        return {**counts, "num_classes": classes, "count": jnp.sum(found.num_examples)}

    return _between("agreement", pair, {}, answer)


def study(spec: StudySpec, runs: Sequence[Run]) -> Question:
    """The study itself: its config, and how long each run took."""

    def answer() -> dict[str, Any]:
        results = [read_result(run.workdir) for run in runs]
        return {
            "run": [run.name for run in runs],
            "seconds": [np.nan if result is None else result.seconds for result in results],
        }

    data = {run.name: _identities(run) for run in runs}
    return Question("study", {"name": spec.name}, {"config": spec}, data, answer)


def _between(
    name: str,
    pair: Pair,
    options: Mapping[str, Any],
    answer: Callable[[], Mapping[str, Any]],
    *,
    on_data: bool = True,
) -> Question:
    inputs = {
        "a": pair.a.name,
        "b": pair.b.name,
        "kind_a": pair.a.kind,
        "kind_b": pair.b.kind,
        "pair": f"{pair.a.kind} / {pair.b.kind}",
        "shuffle": pair.a.shuffle,
    }
    data: dict[str, Any] = {"a": _identities(pair.a), "b": _identities(pair.b)}
    if on_data:
        inputs["split"] = "test"
        data["examples"] = loader.data_key(pair.a.spec.data, "test")
    return Question(name, inputs, options, data, answer)


def _identities(run: Run) -> dict[str, Any]:
    return {"weights": checkpoints.identity(checkpoints.origin(run.workdir, run.spec.num_steps))}


def _module_of(leaf: str) -> str:
    return leaf.split("/")[1]  # after the collection, "params" or "batch_stats"


def _params(run: Run) -> Params:
    return _restored(run.workdir, run.spec.num_steps)


@functools.lru_cache(maxsize=4)
def _restored(workdir: Path, step: int) -> Params:
    return checkpoints.restore(workdir, step)


def _apply_fn(run: Run) -> ApplyFn:
    return make_apply_fn(make_module(run.spec))  # the one that the run was evaluated with


def _test_stream(run: Run, batch_size: int | None = None) -> Stream:
    data = run.spec.data
    if batch_size is not None:
        data = dataclasses.replace(data, eval_batch_size=batch_size)
    return loader.eval_stream(data, "test")
