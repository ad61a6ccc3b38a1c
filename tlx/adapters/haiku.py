"""Haiku transforms as pure functions on their parameters and state."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import haiku as hk
import jax

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
)
from tlx.core import public
from tlx.core.types import FeatureFn, Params

__dir__ = public.names(__name__)

Transformed = hk.Transformed | hk.TransformedWithState


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Apply(Function):
    transformed: Transformed
    call: Call | None
    output: Output | None
    options: tuple[tuple[str, Any], ...]

    def __call__(self, params: Params, inputs: Any) -> Any:
        apply = self.transformed.apply
        # hk.without_apply_rng takes the argument away
        rng = (None,) if "rng" in inspect.signature(apply).parameters else ()
        stateful = isinstance(self.transformed, hk.TransformedWithState)
        held = _held(params) if stateful else (params["params"],)

        def model(*args: Any, **kwargs: Any) -> Any:
            found = apply(*held, *rng, *args, **kwargs)
            return found[0] if stateful else found

        options = dict(self.options)
        found = self.call(model, inputs, **options) if self.call else model(inputs, **options)
        return chosen(found, self.output)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Features(_Apply):
    layers: tuple[str, ...] | None

    def __call__(self, params: Params, inputs: Any) -> Mapping[str, jax.Array]:
        calls: list[tuple[str, Any]] = []

        def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            out = call(*args, **kwargs)
            if context.method_name == "__call__":
                calls.append((context.module.module_name, out))
            return out

        with hk.intercept_methods(record):
            out = super().__call__(params, inputs)
        return choose_rows(collect([*calls, (OUTPUT, out)]), self.layers, inputs)


def adapt(
    transformed: Transformed,
    params: Params,
    state: Params | None = None,
    *,
    call: Call | None = None,
    output: Output | None = None,
    **call_options: Any,
) -> Adapted:
    """A Haiku transform and its parameters as `(apply_fn, params)`.

    Args:
      transformed: from `hk.transform` or `hk.transform_with_state`, of a function that takes
        the inputs [B, ...].
      params: the parameters that `transformed.init` returned.
      state: the state that `init` returned, where there is one (batch statistics).
      call: `(apply, inputs, **call_options) -> outputs`, for a function that takes several
        arguments: `lambda f, x: f(x["ids"], x["mask"])`.
      output: what of the outputs (without state) is evaluated: `lambda out: out[0]`; None: all.
      **call_options: passed to every call, such as `is_training=False`.

    Returns:
      `Adapted`: `apply_fn` calls with no random key; `params` is {"params": params}, and of a
      transform with state also "state": that of a layer's parts ("norm/~/mean_ema", "average")
      under the name of the layer that holds the parameters ("norm", "mean_ema.average").

    Raises:
      ValueError: if a transform with state comes without one, or the reverse. At call.

    >>> import jax, jax.numpy as jnp
    >>> net = hk.transform(lambda x: hk.Linear(3)(x))
    >>> apply_fn, params = adapt(net, net.init(jax.random.key(0), jnp.ones([1, 2])))
    >>> apply_fn(params, jnp.ones([5, 2])).shape
    (5, 3)
    """
    stateful = isinstance(transformed, hk.TransformedWithState)
    if stateful != (state is not None):
        raise ValueError(
            f"expected {'a' if stateful else 'no'} state with {type(transformed).__name__}; "
            "pass the state that hk.transform_with_state(...).init returns, and only that."
        )
    apply_fn = _Apply(transformed, call, output, options_of(call_options))
    held = {"params": {name: dict(leaves) for name, leaves in params.items()}}
    if state is not None:
        held["state"] = _beside(state, params)
    return Adapted(apply_fn, held)


def features(
    transformed: Transformed,
    layers: Sequence[str] | None = None,
    *,
    call: Call | None = None,
    output: Output | None = None,
    **call_options: Any,
) -> FeatureFn:
    """The outputs of a Haiku transform's modules by name.

    Names are Haiku's module names ("mlp/~/linear_0"; a second call "mlp/~/linear_0:1"; several
    arrays "lstm/0", "lstm/1/hidden") and "output" for the transformed function itself.

    Args:
      transformed: as in `adapt`.
      layers: names or regular expressions (whole name), None for all.
      call: as in `adapt`.
      output: as in `adapt`; of "output" alone.
      **call_options: passed to every call, such as `is_training=False`.

    Returns:
      `FeatureFn` on the `params` of `adapt`, in the order in which the layers end. While tracing
      it raises ValueError if a name fits no layer, and lists the known ones; layers without a row
      for each input are left out, and listed in a warning.
    """
    return _Features(transformed, call, output, options_of(call_options), as_layers(layers))


PART = "."
"""What joins the part of a layer and the name of its state; no name of Haiku's holds it."""


def _beside(state: Params, params: Params) -> dict[str, dict[str, Any]]:
    """The state, with that of a layer's parts under the layer that holds the parameters."""
    out: dict[str, dict[str, Any]] = {}
    for module, leaves in state.items():
        layer, part = module, ""
        while layer not in params and "/~/" in layer:
            layer, _, last = layer.rpartition("/~/")
            part = f"{last}{PART}{part}"
        layer, part = (layer, part) if layer in params else (module, "")
        out.setdefault(layer, {}).update({f"{part}{name}": x for name, x in leaves.items()})
    return out


def _held(params: Params) -> tuple[Any, Any]:
    """The parameters and the state as Haiku has them."""
    state: dict[str, dict[str, Any]] = {}
    for layer, leaves in params["state"].items():
        for name, x in leaves.items():
            *parts, own = name.split(PART)
            state.setdefault("/~/".join([layer, *parts]), {})[own] = x
    return params["params"], state
