"""Equinox modules, written for one example, as pure functions on batches."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax

from tlx.adapters import OUTPUT, Adapted, as_layers, choose, collect, recording
from tlx.core import public
from tlx.core.types import FeatureFn, Params

__dir__ = public.names(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class _Apply:
    static: Any
    options: Mapping[str, Any]

    def __call__(self, params: Params, inputs: Any) -> Any:
        model, state = eqx.combine(params, self.static)
        return jax.vmap(lambda x: self.call(model, state, x))(inputs)

    def call(self, model: Any, state: Any, x: Any) -> Any:
        if state is None:
            return model(x, **self.options)
        return model(x, state, **self.options)[0]


@dataclasses.dataclass(frozen=True, eq=False)
class _Features(_Apply):
    layers: tuple[str, ...] | None

    def call(self, model: Any, state: Any, x: Any) -> Any:
        with recording(dict(_modules(model, ()))) as calls:
            super().call(model, state, x)
        return choose(collect(calls), self.layers)


def adapt(model: Any, state: eqx.nn.State | None = None, **call_options: Any) -> Adapted:
    """An Equinox module as `(apply_fn, params)`.

    Args:
      model: a callable module for one example, `model(x, **call_options)`, or
        `model(x, state, **call_options) -> (output, state)` where `state` is given.
      state: the second result of `eqx.nn.make_with_state` for models with batch statistics.
      **call_options: passed to every call.

    Returns:
      `Adapted`: `apply_fn` maps the model over the batch in inference mode; `params` is the
      pair (model, state) with None in place of everything but floating (or complex) arrays.

    >>> import jax, jax.numpy as jnp
    >>> apply_fn, params = adapt(eqx.nn.Linear(2, 3, key=jax.random.key(0)))
    >>> apply_fn(params, jnp.ones([5, 2])).shape
    (5, 3)
    """
    params, static = _partition(model, state)
    return Adapted(_Apply(static, call_options), params)


def features(
    model: Any,
    layers: Sequence[str] | None = None,
    *,
    state: eqx.nn.State | None = None,
    **call_options: Any,
) -> FeatureFn:
    """The outputs of an Equinox module's layers by name.

    Names are the paths of submodules ("layers/0/conv"; a second call "layers/0/conv:1") and
    "output" for the module itself; of an output (value, state) the value counts.

    Args:
      model: a callable module for one example, as in `adapt`.
      layers: names or regular expressions (whole name), None for all.
      state: as in `adapt`.
      **call_options: passed to every call.

    Returns:
      `FeatureFn` on the `params` of `adapt`, in the order in which the layers end. It raises
      ValueError while tracing if a name fits no layer, and lists the known ones. A submodule
      that the model calls inside a transformation (`jax.vmap`, `lax.scan`) has no output to
      return; leave it out of `layers`.
    """
    _, static = _partition(model, state)
    return _Features(static, call_options, as_layers(layers))


def _partition(model: Any, state: Any) -> tuple[Any, Any]:
    return eqx.partition((eqx.nn.inference_mode(model), state), eqx.is_inexact_array)


def _modules(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Every callable module in a module's fields, lists, tuples and dicts, by path."""
    if isinstance(node, eqx.Module):
        if callable(node):
            yield "/".join(path) or OUTPUT, node
        children = {f.name: getattr(node, f.name, None) for f in dataclasses.fields(node)}
    elif isinstance(node, Mapping):
        children = {str(key): value for key, value in node.items()}
    elif isinstance(node, list | tuple):
        children = {str(i): value for i, value in enumerate(node)}
    else:
        return
    for key, child in children.items():
        yield from _modules(child, (*path, key))
