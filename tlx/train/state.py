"""The state of a run: everything that the next step depends on, apart from the data."""

import dataclasses
import functools
import zlib
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Key

from tlx.core import tree
from tlx.core.types import Params
from tlx.train import optim as optim_lib

NEVER = -1
"""`bad_step` of a run whose losses were all finite."""


@flax.struct.dataclass
class TrainState:
    """The state of a run, a pytree; a step computes the next one from it.

    Attributes:
      step: int32, updates done.
      params: the weights, those of frozen modules too.
      collections: the model's other collections ("batch_stats"); {} where it has none.
      opt_state: state of the optimiser, for the modules that are trained.
      key: typed PRNG key of the run; each step folds its number in.
      bad_step: int32, the first step with a loss that was not finite, or `NEVER`.
      average: the moving average of the variables; None where none is kept.
    """

    step: Int32[Array, ""]
    params: Params
    collections: Params
    opt_state: Any
    key: Key[Array, ""]
    bad_step: Int32[Array, ""]
    average: Params = None

    @property
    def variables(self) -> dict[str, Params]:
        """What is evaluated and saved: {"params": …, "batch_stats": …}, or their average."""
        return self.trained if self.average is None else dict(self.average)

    @property
    def trained(self) -> dict[str, Params]:
        """The variables that the next step goes on from."""
        return {"params": self.params, **self.collections}


def init_variables(module: nn.Module, seed: int, inputs_shape: tuple[int, ...]) -> dict[str, Any]:
    """The model's initial variables, a pure function of module and seed.

    Args:
      module: Linen model.
      seed: int32 ≥ 0.
      inputs_shape: [B, …] of an input; B does not matter.
    """
    inputs = jnp.zeros((1, *inputs_shape[1:]), jnp.float32)
    return dict(_compiled_init()(module, jax.random.key(seed), inputs))


def _init(module: nn.Module, key: Any, inputs: Any) -> Any:
    return module.init(key, inputs, train=False)


@functools.cache
def _compiled_init() -> Any:
    # LLVM spends seconds on the random bits of each leaf; unoptimised it takes a tenth.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
    return jax.jit(_init, static_argnums=0, compiler_options=options)


def make_state(
    variables: Params, static: optim_lib.Static, seed: int, *, averaged: bool = False
) -> TrainState:
    """The state before the first step.

    Args:
      variables: {"params": …, further collections}; copied, since steps donate their state.
      static: of the optimiser.
      seed: of the run.
      averaged: whether a moving average is kept.
    """
    collections = {name: value for name, value in variables.items() if name != "params"}
    params = jax.tree.map(jnp.array, variables["params"])
    trained, _ = optim_lib.split(params, static.freeze)
    return TrainState(
        step=jnp.int32(0),
        params=params,
        collections=jax.tree.map(jnp.array, collections),
        opt_state=optim_lib.trained_optimizer(static, params).init(trained),
        key=jax.random.fold_in(jax.random.key(seed), zlib.crc32(b"train")),
        bad_step=jnp.int32(NEVER),
        average=jax.tree.map(jnp.array, dict(variables)) if averaged else None,
    )


def forked(
    state: TrainState, key: Key[Array, ""], noise: float, freeze: tuple[str, ...]
) -> TrainState:
    """The state with the key of another seed, and with noise on the trained weights.

    Args:
      state: of the run before a step.
      key: of the other seed, typed, on the devices of the state.
      noise: its standard deviation as a share of each tensor's root mean square.
      freeze: modules that keep their weights.
    """
    params = state.params
    if noise:
        trained, frozen = optim_lib.split(params, freeze)
        draws = jax.random.fold_in(key, zlib.crc32(b"fork"))
        params = {**_with_noise(trained, draws, np.float32(noise)), **frozen}
    key = jax.random.fold_in(key, zlib.crc32(b"train"))
    return dataclasses.replace(state, params=params, key=key)


@jax.jit
def _with_noise(params: Params, key: Key[Array, ""], noise: Array) -> Params:
    def one(name: str, leaf: Array) -> Array:
        draw = jax.random.normal(jax.random.fold_in(key, zlib.crc32(name.encode())), leaf.shape)
        size = jnp.sqrt(jnp.mean(jnp.square(leaf)))
        return (leaf + noise * size * draw).astype(leaf.dtype)

    return tree.map_named(one, params)
