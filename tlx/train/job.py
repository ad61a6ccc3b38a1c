"""Everything a run needs besides its state, built from the spec once."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh

from tlx import checkpoints, models
from tlx.config.typed import tuples
from tlx.core import auc, evaluate, sharding
from tlx.core.types import ApplyFn, Batch, Metric, Params, Stream
from tlx.data import examples, loader
from tlx.train import feed, initial, losses, optim
from tlx.train.spec import RunSpec
from tlx.train.state import TrainState, make_state
from tlx.train.step import StepConfig, StepFn, make_apply_fn, make_step


@dataclasses.dataclass(frozen=True)
class Job:
    """A run without its state.

    Attributes:
      spec: what to do.
      workdir: where its files are.
      mesh: devices.
      module: the model.
      data: training examples.
      streams: "train", "valid" where examples are held out, and "test", for evaluation.
      step_config: of the step.
      step_fn: the compiled step.
      apply_fn: the model in evaluation mode.
      metrics: of evaluation, for each of the streams.
      origin: of the run at step 0.
    """

    spec: RunSpec
    workdir: Path
    mesh: Mesh
    module: nn.Module
    data: examples.Examples
    streams: dict[str, Stream]
    step_config: StepConfig
    step_fn: StepFn
    apply_fn: ApplyFn
    metrics: dict[str, Metric]
    origin: checkpoints.Origin

    @property
    def selected_on(self) -> str:
        """The split by which the best step is chosen."""
        return "valid" if "valid" in self.streams else "test"

    def batches(self, start_step: int) -> Iterator[dict[str, Any]]:
        """Training batches from a step on, on the devices."""
        fork = self.spec.fork
        if fork is None:
            batches = self._of_seed(self.spec.seed, start_step)
        else:
            before = self._of_seed(self.spec.seed, start_step)
            after = self._of_seed(fork.seed, max(start_step, fork.step))
            left = max(fork.step - start_step, 0)
            batches = itertools.chain(itertools.islice(before, left), after)
        return feed.train_feed(batches, self.mesh)

    def _of_seed(self, seed: int, start_step: int) -> Iterator[Batch]:
        return loader.train_batches(
            self.data,
            self.spec.data,
            seed=seed,
            start_step=start_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def evaluate(self, variables: Params, split: str) -> dict[str, Any]:
        """Clean loss, accuracy and count on a split, in evaluation mode.

        With several labels an image also `auc`, their mean area under the ROC curve over the
        entire split, and `auc_of_label`, that of each; None where it is not defined.
        """
        metric = self.metrics[split]
        state = evaluate(self.apply_fn, _of_states(metric), variables, self.streams[split])
        found = jax.device_get(_computed(metric)(sharding.to_host(state)))
        results: dict[str, Any] = {name: float(found[name]) for name in ("loss", "accuracy")}
        results["count"] = int(found["count"])
        if "auc" in found:
            results["auc"] = _finite(found["auc"])
            results["auc_of_label"] = [_finite(value) for value in found["auc_of_label"]]
        return results


def make_job(spec: RunSpec, workdir: Path, mesh: Mesh, origin: checkpoints.Origin) -> Job:
    """The job of a spec: its data opened, its model and compiled functions built.

    Args:
      spec: what to do.
      workdir: where its files are.
      mesh: devices.
      origin: of the run at step 0 (`tlx.train.resuming.origin_of`).

    Raises:
      ValueError: the devices do not divide the batch, or as data and models.
    """
    feed.require_divisible(spec.data.batch_size, mesh, spec.accumulate)
    module = make_module(spec)
    examples.log_left_out(spec.data)
    splits = [name for name in examples.SPLITS if name != "valid" or spec.data.valid_size]
    data = {split: examples.load(spec.data, split) for split in splits}
    _require_loss(spec, data["train"])
    is_shared, is_of_rows = jax.process_count() > 1, spec.mixup or spec.accumulate > 1
    config = StepConfig(
        module=module,
        loss=spec.loss,
        mixup=float(spec.mixup),
        optim=optim.static_of(spec.optim),
        row_processes=feed.row_processes(mesh) if is_shared and is_of_rows else (),
        label_smoothing=float(spec.label_smoothing),
        accumulate=spec.accumulate,
        ema=float(spec.ema),
    )
    return Job(
        spec=spec,
        workdir=workdir,
        mesh=mesh,
        module=module,
        data=data["train"],
        streams={
            split: feed.eval_feed(loader.eval_stream(spec.data, split, data=part), mesh)
            for split, part in data.items()
        },
        step_config=config,
        step_fn=make_step(config, mesh),
        apply_fn=make_apply_fn(module),
        metrics={
            split: _metric(spec.loss, examples.num_examples(part), module.num_classes)
            for split, part in data.items()
        },
        origin=origin,
    )


def _require_loss(spec: RunSpec, data: examples.Examples) -> None:
    """Raises for a loss of the other kind of labels, before anything is written."""
    wanted = "multilabel" if examples.is_multilabel(data) else "softmax"
    if spec.loss != wanted:
        each = "several labels" if wanted == "multilabel" else "one class"
        raise ValueError(
            f"loss: expected {wanted!r} for images of {each} each, as those of data "
            f"{spec.data.name!r} are, got {spec.loss!r}"
        )


def _metric(loss: str, num_examples: int, num_classes: int) -> Metric:
    if loss == "multilabel":
        return auc.ranking(num_examples, num_classes)
    return losses.make_loss(loss).metric()


@functools.lru_cache(maxsize=64)
def _of_states(metric: Metric) -> Metric:
    """The metric whose result is its state; cached, as jit requires."""
    return metric._replace(compute=lambda state: state)


@functools.lru_cache(maxsize=64)
def _computed(metric: Metric) -> Any:
    return jax.jit(metric.compute)


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def make_module(spec: RunSpec) -> nn.Module:
    """The model of a run, with as many logits as its data has classes.

    Raises:
      ValueError: unknown names or options of the model, or data that cannot be opened.
    """
    source, _ = examples.open_split(spec.data, "train")
    options = tuples(spec.model.options)
    return models.make(
        spec.model.name, num_classes=source.num_classes, dtype=spec.model.dtype, **options
    )


def new_state(job: Job) -> TrainState:
    """The state before the first step, on the devices."""
    shape = (1, job.spec.data.image_size, job.spec.data.image_size, job.spec.data.channels)
    variables, _ = initial.initial_variables(job.spec, job.module, shape)
    static, averaged = optim.static_of(job.spec.optim), bool(job.spec.ema)
    state = make_state(variables, static, job.spec.seed, averaged=averaged)
    return sharding.place(state, job.mesh)
