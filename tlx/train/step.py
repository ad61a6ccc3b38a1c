"""One training step as a pure function, compiled once for all runs that share its shape."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from tlx.core import sharding
from tlx.core.metrics import mask_of
from tlx.core.types import ApplyFn, Batch, Params
from tlx.data import image_ops
from tlx.train import losses, optim
from tlx.train.state import NEVER, TrainState


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """Everything that is compiled into a step; equal configs share one compiled function.

    Attributes:
      module: Linen model, hashable.
      loss: name in `losses.LOSSES`.
      mixup: parameter of mixup's Beta distribution; 0: none.
      optim: static part of the optimiser.
      row_processes: of each part of the rows, in their order (`tlx.train.feed.row_processes`), if
        it matters which rows a batch has next to each other; () if it does not, or for one process.
      label_smoothing: the share of each target that all classes get.
      accumulate: parts of a batch, one after another.
      ema: decay of the average of the variables; 0: none is kept.
    """

    module: nn.Module
    loss: str
    mixup: float
    optim: optim.Static
    row_processes: tuple[int, ...] = ()
    label_smoothing: float = 0.0
    accumulate: int = 1
    ema: float = 0.0


class StepInputs(NamedTuple):
    """The numbers of one step.

    Attributes:
      rate: float32, learning rate.
      hyper: the optimiser's other hyper-parameters.
    """

    rate: Any
    hyper: optim.Hyper


StepFn = Callable[[TrainState, Batch, StepInputs], tuple[TrainState, dict[str, Array]]]


def step(
    config: StepConfig, state: TrainState, batch: Batch, numbers: StepInputs
) -> tuple[TrainState, dict[str, Array]]:
    """The next state, and the loss of the batch before the update.

    Args:
      config: static.
      state: see `TrainState`.
      batch: `inputs` [B, …], `labels` [B] or [B, C], maybe `mask` bool [B]: rows where it
        is False change no bit of the result, whatever they hold (even NaN). Batch normalisation
        and mixup leave them out. If all rows are masked, the gradient is 0 and the batch
        statistics stay.
      numbers: rate and hyper-parameters.

    Returns:
      The state, and float32 scalars "loss" (mean over the rows that count, of mixed
      targets under mixup) and "accuracy" (the same), int32 "count" and "bad_step" (the
      state's).
    """
    trained, frozen = optim.split(state.params, config.optim.freeze)
    found = _gradients(config, trained, frozen, state, _prepared(config, state, batch))
    (value, accuracy, count), collections, grads = found
    updates, opt_state = optim.trained_optimizer(config.optim, state.params).update(
        grads, state.opt_state, trained, learning_rate=numbers.rate, hyper=numbers.hyper
    )
    is_bad = (state.bad_step == NEVER) & ~jnp.isfinite(value)
    after = dataclasses.replace(
        state,
        step=state.step + 1,
        params={**optax.apply_updates(trained, updates), **frozen},
        collections=collections,
        opt_state=opt_state,
        bad_step=jnp.where(is_bad, state.step, state.bad_step),
    )
    if config.ema:
        after = dataclasses.replace(after, average=_averaged(config.ema, state.average, after))
    return after, {
        "loss": value,
        "accuracy": accuracy,
        "count": count,
        "bad_step": after.bad_step,
    }


def _gradients(
    config: StepConfig, trained: Params, frozen: Params, state: TrainState, batch: Any
) -> tuple[tuple[Array, Array, Array], Params, Params]:
    """Loss, accuracy and count of the batch, the collections after it, and the gradient.

    Sums over the parts of the batch, each over the number of rows that count in all of them.
    """
    loss, parts = losses.make_loss(config.loss), config.accumulate
    count = jnp.sum(batch[2], dtype=jnp.int32)
    rows = jnp.maximum(count, 1)

    def loss_of(trained: Params, collections: Params, part: Any) -> Any:
        inputs, targets, mask = part
        variables = {"params": {**trained, **frozen}, **collections}
        logits, after = _apply(config.module, variables, inputs, mask, config.optim.freeze)
        smooth = losses.smoothed(targets, config.label_smoothing)
        value = losses.masked_sum(loss.per_example(logits, smooth), mask, rows)
        return value, (losses.masked_sum(loss.right(logits, targets), mask, rows), after)

    gradient = jax.value_and_grad(loss_of, has_aux=True)
    if parts == 1:
        (value, (right, after)), grads = gradient(trained, state.collections, batch)
        return (value, right, count), after, grads

    def one(carry: Any, part: Any) -> tuple[Any, None]:
        collections, sums = carry
        (value, (right, after)), grads = gradient(trained, collections, part)
        return (after, jax.tree.map(jnp.add, sums, (value, right, grads))), None

    # part i has every n-th row from row i on: on each device rows of its own
    split = jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1), batch
    )
    zero = jnp.zeros((), jnp.float32)
    start = (state.collections, (zero, zero, jax.tree.map(jnp.zeros_like, trained)))
    (after, (value, right, grads)), _ = jax.lax.scan(one, start, split)
    return (value, right, count), after, grads


def _averaged(decay: float, average: Params, state: TrainState) -> Params:
    """The moving average after a step."""

    def one(old: Array, new: Array) -> Array:
        kept = jnp.asarray(decay, old.dtype)
        return kept * old + (1 - kept) * new.astype(old.dtype)

    return jax.tree.map(one, average, {"params": state.params, **state.collections})


def _prepared(config: StepConfig, state: TrainState, batch: Batch) -> tuple[Array, Array, Array]:
    """Inputs, targets and mask, mixed with a key of this step if the config has mixup."""
    loss = losses.make_loss(config.loss)
    # which rows are mixed, and of which statistics are taken, is not to depend on processes
    is_of_rows = bool(config.mixup) or (config.accumulate > 1 and bool(state.collections))
    given = jnp.asarray(batch["inputs"]), jnp.asarray(batch["labels"]), mask_of(batch)
    inputs, labels, mask = (_in_order(x, config.row_processes if is_of_rows else ()) for x in given)
    inputs, labels = (_filled(x, mask) for x in (inputs, labels))
    targets = loss.targets(labels, config.module.num_classes)
    if config.mixup:
        key = jax.random.fold_in(state.key, state.step)
        inputs, targets = image_ops.mixup(key, inputs, targets, config.mixup, mask)
    return inputs, targets, mask


def _filled(rows: Array, mask: Array) -> Array:
    """The rows with masked ones replaced by the first unmasked one; ones if all are masked.

    Not zeros: a model may divide by the norm of its input, and a NaN derivative stays NaN when
    multiplied by the 0 of a masked loss.
    """
    of_rows = mask.reshape(-1, *[1] * (rows.ndim - 1))
    # a sum over one row, not an index: devices then exchange a row, and not all rows
    is_first = of_rows & (jnp.cumsum(of_rows, 0) == 1)
    first = jnp.sum(jnp.where(is_first, rows, 0), 0, dtype=rows.dtype)
    return jnp.where(of_rows, rows, jnp.where(jnp.any(mask), first, jnp.ones_like(first)))


def _in_order(rows: Array, processes: tuple[int, ...]) -> Array:
    """Rows in the order that one process would have them.

    Process p of P holds rows p, p + P, …, on its devices one after another; partners of mixup are
    drawn by row number.

    Args:
      rows: [B, …], in the order of the devices.
      processes: of each device, in the same order; () for one process.
    """
    if not processes:
        return rows
    order = np.argsort(processes, kind="stable")
    if (order != np.arange(len(order))).any():
        blocks = rows.reshape(len(processes), -1, *rows.shape[1:])
        rows = jnp.take(blocks, order, axis=0).reshape(rows.shape)
    grid = rows.reshape(len(set(processes)), -1, *rows.shape[1:])
    return jnp.swapaxes(grid, 0, 1).reshape(rows.shape)


def _apply(
    module: nn.Module, variables: Params, inputs: Array, mask: Array, freeze: tuple[str, ...]
) -> tuple[Array, Params]:
    """Logits in training mode, frozen modules in evaluation mode; the collections after it."""
    before = {name: part for name, part in variables.items() if name != "params"}
    if not before:
        return cast(Array, module.apply(variables, inputs, train=True)), before
    with nn.intercept_methods(_norms_of_examples(mask, freeze)):
        logits, changed = module.apply(variables, inputs, train=True, mutable=list(before))
    has_examples = jnp.any(mask)
    after = {}
    for name, part in before.items():
        kept = functools.partial(jnp.where, has_examples)
        after[name] = {
            **jax.tree.map(kept, changed[name], part),
            **optim.split(part, freeze)[1],
        }
    return cast(Array, logits), after


def _norms_of_examples(mask: Array, freeze: tuple[str, ...]) -> Any:
    """An interceptor of calls of batch normalisation.

    Frozen modules use running statistics, others those of the unmasked rows.
    """

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        norm = context.module
        if not isinstance(norm, nn.BatchNorm) or context.method_name != "__call__":
            return call(*args, **kwargs)
        if set(norm.path[:1]) & set(freeze):
            fixed = norm.clone(parent=None, use_running_average=True)
            own = {name: value for name, value in kwargs.items() if name == "mask"}
            return fixed.apply(norm.variables, args[0], **own)
        x, own_mask = args[0], kwargs.get("mask")
        rows = _rows_of(norm, x, mask)
        return call(*args, **{**kwargs, "mask": rows if own_mask is None else rows & own_mask})

    return intercept


def _rows_of(norm: nn.BatchNorm, x: Array, mask: Array) -> Array:
    """The mask of a normalisation's values that belong to unmasked rows; all if none does.

    Rows of an example that was cut into several follow each other, as a reshape leaves them.

    Raises:
      ValueError: while tracing, if it cannot be determined.
    """
    size = x.shape[0] if x.ndim else 0
    if not size or size % mask.shape[0]:
        raise ValueError(
            f"batch normalisation {'/'.join(norm.path)}: expected a multiple of the batch of "
            f"{mask.shape[0]} rows on the first axis, so that rows which do not count are left "
            f"out, got {x.shape}; put the examples first"
        )
    rows = jnp.repeat(mask | ~jnp.any(mask), size // mask.shape[0], total_repeat_length=size)
    return rows.reshape(-1, *[1] * (x.ndim - 1))


@functools.lru_cache(maxsize=64)
def make_step(config: StepConfig, mesh: Mesh) -> StepFn:
    """The compiled step of a config on a mesh; equal arguments give the same function.

    The state is split over `model` as `sharding.place` does it, rows of the batch over `data` and
    `model`; sums over rows are global, so the numbers do not depend on the devices but for
    rounding. The state that is passed is donated: use the returned one.
    """

    def placed(
        state: TrainState, batch: Batch, numbers: StepInputs
    ) -> tuple[TrainState, dict[str, Array]]:
        after, metrics = step(config, state, batch, numbers)
        return sharding.place(after, mesh), sharding.replicate(metrics, mesh)

    return jax.jit(placed, donate_argnums=0)


@functools.lru_cache(maxsize=64)
def make_apply_fn(module: nn.Module) -> ApplyFn:
    """`(variables, inputs) -> logits` in evaluation mode; equal modules share one function.

    So evaluations of several runs share compiled code.
    """

    def apply_fn(variables: Params, inputs: Any) -> Any:
        return module.apply(variables, inputs, train=False)

    return apply_fn
