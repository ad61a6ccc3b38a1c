"""Flax NNX modules as pure functions on their state."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from tlx.adapters import (
    OUTPUT,
    Adapted,
    Call,
    Function,
    Output,
    as_layers,
    choose_rows,
    chosen,
    collect,
    options_of,
    recording,
)
from tlx.core import public
from tlx.core.types import FeatureFn, Params

__dir__ = public.names(__name__)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Apply(Function):
    graphdef: Any
    rest: Any
    call: Call | None
    output: Output | None
    options: tuple[tuple[str, Any], ...]

    def __call__(self, params: Params, inputs: Any) -> Any:
        return self.run(self.bind(params), inputs)

    def bind(self, params: Params) -> Any:
        # copy: a call may count up a random stream, which must not reach the next call
        return nnx.merge(self.graphdef, *params.values(), self.rest, copy=True)

    def run(self, model: Any, inputs: Any) -> Any:
        options = dict(self.options)
        found = self.call(model, inputs, **options) if self.call else model(inputs, **options)
        return chosen(found, self.output)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Features(_Apply):
    layers: tuple[str, ...] | None

    def __call__(self, params: Params, inputs: Any) -> Mapping[str, jax.Array]:
        model = self.bind(params)
        modules = {"/".join(map(str, path)): m for path, m in nnx.iter_modules(model) if path}
        with recording(modules) as calls:
            out = self.run(model, inputs)
        return choose_rows(collect([*calls, (OUTPUT, out)]), self.layers, inputs)


def adapt(
    model: nnx.Module,
    *,
    call: Call | None = None,
    output: Output | None = None,
    **call_options: Any,
) -> Adapted:
    """An NNX module as `(apply_fn, params)`; the module itself is not changed.

    Args:
      model: a module whose `__call__` takes the inputs [B, ...].
      call: `(model, inputs, **call_options) -> outputs`, for a module that takes several
        arguments or another method: `lambda m, x: m(x["ids"], x["mask"])`.
      output: what of the outputs is evaluated: `lambda out: out[0]`; None: all.
      **call_options: passed to every call.

    Returns:
      `Adapted`: `apply_fn` runs a copy in evaluation mode (`model.eval()`); `params` are the
      variables as {"params": nnx.State of each nnx.Param} and, where there are others (batch
      statistics), "state" with those. Random state (keys, counts) stays fixed in `apply_fn`.

    >>> import jax.numpy as jnp
    >>> apply_fn, params = adapt(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> apply_fn(params, jnp.ones([5, 2])).shape
    (5, 3)
    """
    graphdef, params, rest = _split(model)
    return Adapted(_Apply(graphdef, rest, call, output, options_of(call_options)), params)


def features(
    model: nnx.Module,
    layers: Sequence[str] | None = None,
    *,
    call: Call | None = None,
    output: Output | None = None,
    **call_options: Any,
) -> FeatureFn:
    """The outputs of an NNX module's layers by name.

    Names are the paths of submodules ("blocks/0/conv"; a second call "blocks/0/conv:1"; several
    arrays "blocks/0/0", "blocks/0/1") and "output" for the module itself.

    Args:
      model: a module; not changed.
      layers: names or regular expressions (whole name), None for all.
      call: as in `adapt`.
      output: as in `adapt`; of "output" alone.
      **call_options: passed to every call.

    Returns:
      `FeatureFn` on the `params` of `adapt`, in the order in which the layers end. While tracing
      it raises ValueError if a name fits no layer, and lists the known ones; layers without a row
      for each input are left out, and listed in a warning. Submodules that the model calls inside
      a transformation (`nnx.remat`, `nnx.scan`) are not seen.
    """
    graphdef, _, rest = _split(model)
    return _Features(graphdef, rest, call, output, options_of(call_options), as_layers(layers))


def _split(model: nnx.Module) -> tuple[Any, Params, Any]:
    """The structure, the variables by collection, and random state."""
    copy = nnx.clone(model)
    copy.eval()
    random = nnx.filterlib.OfType(nnx.RngState)
    parts: Any = nnx.split(copy, nnx.Param, nnx.filterlib.Not(random), ...)
    graphdef, params, state, rest = parts
    return graphdef, {"params": params, "state": state} if state else {"params": params}, rest
