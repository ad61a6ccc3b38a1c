"""Haiku transforms as pure functions on their parameters and state."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import haiku as hk
import jax

from tlx.adapters import OUTPUT, Adapted, as_layers, choose, collect
from tlx.core import public
from tlx.core.types import FeatureFn, Params

__dir__ = public.names(__name__)

Transformed = hk.Transformed | hk.TransformedWithState


@dataclasses.dataclass(frozen=True)
class _Apply:
    transformed: Transformed
    options: tuple[tuple[str, Any], ...]

    def __call__(self, params: Params, inputs: Any) -> Any:
        apply = self.transformed.apply
        # hk.without_apply_rng takes the argument away
        rng = (None,) if "rng" in inspect.signature(apply).parameters else ()
        if isinstance(self.transformed, hk.TransformedWithState):
            return apply(*params, *rng, inputs, **dict(self.options))[0]
        return apply(params, *rng, inputs, **dict(self.options))


@dataclasses.dataclass(frozen=True)
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
        return choose(collect([*calls, (OUTPUT, out)]), self.layers)


def adapt(
    transformed: Transformed, params: Params, state: Params | None = None, **call_options: Any
) -> Adapted:
    """A Haiku transform and its parameters as `(apply_fn, params)`.

    Args:
      transformed: from `hk.transform` or `hk.transform_with_state`, of a function that takes
        the inputs [B, ...].
      params: the parameters that `transformed.init` returned.
      state: the state that `init` returned, where there is one (batch statistics).
      **call_options: passed to every call, such as `is_training=False`.

    Returns:
      `Adapted`: `apply_fn` calls with no random key; `params` is the pair (params, state) of
      a transform with state, else the parameters alone.

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
    apply_fn = _Apply(transformed, tuple(sorted(call_options.items())))
    return Adapted(apply_fn, (params, state) if stateful else params)


def features(
    transformed: Transformed, layers: Sequence[str] | None = None, **call_options: Any
) -> FeatureFn:
    """The outputs of a Haiku transform's modules by name.

    Names are Haiku's module names ("mlp/~/linear_0"; a second call "mlp/~/linear_0:1") and
    "output" for the transformed function itself.

    Args:
      transformed: as in `adapt`.
      layers: names or regular expressions (whole name), None for all.
      **call_options: passed to every call, such as `is_training=False`.

    Returns:
      `FeatureFn` on the `params` of `adapt`, in the order in which the layers end. It raises
      ValueError while tracing if a name fits no layer, and lists the known ones.
    """
    return _Features(transformed, tuple(sorted(call_options.items())), as_layers(layers))
