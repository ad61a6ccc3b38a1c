"""Flax NNX modules as pure functions on their state."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from tlx.adapters import OUTPUT, Adapted, as_layers, choose, collect, recording
from tlx.core import public
from tlx.core.types import FeatureFn, Params

__dir__ = public.names(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class _Apply:
    graphdef: Any
    rest: Any
    options: Mapping[str, Any]

    def __call__(self, params: Params, inputs: Any) -> Any:
        return self.bind(params)(inputs, **self.options)

    def bind(self, params: Params) -> Any:
        # copy: a call may count up a random stream, which must not reach the next call
        return nnx.merge(self.graphdef, params, self.rest, copy=True)


@dataclasses.dataclass(frozen=True, eq=False)
class _Features(_Apply):
    layers: tuple[str, ...] | None

    def __call__(self, params: Params, inputs: Any) -> Mapping[str, jax.Array]:
        model = self.bind(params)
        modules = {"/".join(map(str, path)) or OUTPUT: m for path, m in nnx.iter_modules(model)}
        with recording(modules) as calls:
            model(inputs, **self.options)
        return choose(collect(calls), self.layers)


def adapt(model: nnx.Module, **call_options: Any) -> Adapted:
    """An NNX module as `(apply_fn, params)`; the module itself is not changed.

    Args:
      model: a module whose `__call__` takes the inputs [B, ...].
      **call_options: passed to every call.

    Returns:
      `Adapted`: `apply_fn` runs a copy in evaluation mode (`model.eval()`); `params` is an
      `nnx.State` with all variables, batch statistics included, but for random state (keys,
      counts), which stays fixed in `apply_fn`.

    >>> import jax.numpy as jnp
    >>> apply_fn, params = adapt(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> apply_fn(params, jnp.ones([5, 2])).shape
    (5, 3)
    """
    graphdef, params, rest = _split(model)
    return Adapted(_Apply(graphdef, rest, call_options), params)


def features(
    model: nnx.Module, layers: Sequence[str] | None = None, **call_options: Any
) -> FeatureFn:
    """The outputs of an NNX module's layers by name.

    Names are the paths of submodules ("blocks/0/conv"; a second call "blocks/0/conv:1") and
    "output" for the module itself.

    Args:
      model: a module; not changed.
      layers: names or regular expressions (whole name), None for all.
      **call_options: passed to every call.

    Returns:
      `FeatureFn` on the `params` of `adapt`, in the order in which the layers end. It raises
      ValueError while tracing if a name fits no layer, and lists the known ones. Submodules
      that the model calls inside a transformation (`nnx.remat`, `nnx.scan`) are not seen.
    """
    graphdef, _, rest = _split(model)
    return _Features(graphdef, rest, call_options, as_layers(layers))


def _split(model: nnx.Module) -> tuple[Any, Any, Any]:
    copy = nnx.clone(model)
    copy.eval()
    parts: Any = nnx.split(copy, nnx.filterlib.Not(nnx.RngState), ...)
    graphdef, params, rest = parts
    return graphdef, params, rest
