"""One training step as a pure function, compiled once for all runs that share its shape."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from tlx.core.metrics import mask_of
from tlx.core.types import ApplyFn, Batch, Params
from tlx.data import image_ops
from tlx.train import losses, optim
from tlx.train.state import NEVER, TrainState


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """All that is compiled into a step; equal configs share one compiled function.

    Attributes:
      module: Linen model, hashable.
      loss: name in `losses.LOSSES`.
      mixup: parameter of mixup's Beta distribution; 0: none.
      optim: static part of the optimiser.
      num_processes: of the run, if there is mixup; 1 otherwise.
    """

    module: nn.Module
    loss: str
    mixup: float
    optim: optim.Static
    num_processes: int = 1


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
        is False change nothing (but batch statistics, if the model has such).
      numbers: rate and hyper-parameters.

    Returns:
      The state, and float32 scalars "loss" (mean over the rows that count, of mixed
      targets under mixup) and "accuracy" (the same), int32 "count" and "bad_step" (the
      state's).
    """
    loss = losses.make_loss(config.loss)
    inputs, targets = _mixed(config, state, batch)
    mask = mask_of(batch)

    freeze = config.optim.freeze
    trained, frozen = optim.split(state.params, freeze)

    def loss_of(trained: Params) -> tuple[Array, tuple[Array, Params]]:
        variables = {"params": {**trained, **frozen}, **state.collections}
        logits, collections = _apply(config.module, variables, inputs, freeze)
        value = losses.masked_mean(loss.per_example(logits, targets), mask)
        return value, (losses.masked_mean(loss.right(logits, targets), mask), collections)

    (value, (accuracy, collections)), grads = jax.value_and_grad(loss_of, has_aux=True)(trained)
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
    count = jnp.sum(mask, dtype=jnp.int32)
    return after, {
        "loss": value,
        "accuracy": accuracy,
        "count": count,
        "bad_step": after.bad_step,
    }


def _mixed(config: StepConfig, state: TrainState, batch: Batch) -> tuple[Array, Array]:
    """Inputs and targets, mixed with a key of this step where the config says so."""
    loss = losses.make_loss(config.loss)
    inputs = jnp.asarray(batch["inputs"])
    targets = loss.targets(jnp.asarray(batch["labels"]), config.module.num_classes)
    if config.mixup == 0:
        return inputs, targets
    key = jax.random.fold_in(state.key, state.step)
    parts = config.num_processes
    inputs, targets = (_in_order(x, parts) for x in (inputs, targets))
    return image_ops.mixup(key, inputs, targets, config.mixup)


def _in_order(rows: Array, parts: int) -> Array:
    """Rows in the order that one process would have them.

    Process p of P holds rows p, p + P, …; partners of mixup are drawn by row number.
    """
    if parts == 1:
        return rows
    grid = rows.reshape(parts, rows.shape[0] // parts, *rows.shape[1:])
    return jnp.swapaxes(grid, 0, 1).reshape(rows.shape)


def _apply(
    module: nn.Module, variables: Params, inputs: Array, freeze: tuple[str, ...]
) -> tuple[Array, Params]:
    """Logits in training mode, frozen modules in evaluation mode; the collections after it."""
    collections = {name: part for name, part in variables.items() if name != "params"}
    if not collections:
        return cast(Array, module.apply(variables, inputs, train=True)), collections
    with nn.intercept_methods(_fixed_norms(freeze)):
        logits, changed = module.apply(variables, inputs, train=True, mutable=list(collections))
    for name, part in collections.items():
        collections[name] = {**changed[name], **optim.split(part, freeze)[1]}
    return cast(Array, logits), collections


def _fixed_norms(freeze: tuple[str, ...]) -> Any:
    """An interceptor of calls: batch normalisation in frozen modules by running statistics."""

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        norm = context.module
        if not isinstance(norm, nn.BatchNorm) or not set(norm.path[:1]) & set(freeze):
            return call(*args, **kwargs)
        fixed = norm.clone(parent=None, use_running_average=True)
        mask = {name: value for name, value in kwargs.items() if name == "mask"}
        return fixed.apply(norm.variables, args[0], **mask)

    return intercept


@functools.lru_cache(maxsize=64)
def make_step(config: StepConfig, mesh: Mesh) -> StepFn:
    """The compiled step of a config on a mesh; equal arguments give the same function.

    State and numbers are replicated, rows of the batch split over `data`; sums over rows
    are global, so the numbers do not depend on the number of devices but for rounding.
    The state that is passed is donated: use the returned one.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data"))
    return jax.jit(
        functools.partial(step, config),
        in_shardings=(everywhere, split, everywhere),
        out_shardings=everywhere,
        donate_argnums=0,
    )


@functools.lru_cache(maxsize=64)
def make_apply_fn(module: nn.Module) -> ApplyFn:
    """`(variables, inputs) -> logits` in evaluation mode; equal modules share one function.

    So evaluations of several runs share compiled code.
    """

    def apply_fn(variables: Params, inputs: Any) -> Any:
        return module.apply(variables, inputs, train=False)

    return apply_fn
