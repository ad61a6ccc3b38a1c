"""Flax Linen modules as pure functions on their variables."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax
import jax
from flax import linen as nn

from tlx.adapters import OUTPUT, Adapted, as_layers, choose, collect
from tlx.core import public
from tlx.core.types import FeatureFn, Params

__dir__ = public.names(__name__)


@dataclasses.dataclass(frozen=True)
class _Apply:
    """Equal for equal modules and options, so that compiled functions are reused."""

    module: nn.Module
    options: tuple[tuple[str, Any], ...]

    def __call__(self, params: Params, inputs: Any) -> Any:
        return self.module.apply(params, inputs, **dict(self.options))


@dataclasses.dataclass(frozen=True)
class _Features(_Apply):
    layers: tuple[str, ...] | None

    def __call__(self, params: Params, inputs: Any) -> Mapping[str, jax.Array]:
        options = dict(self.options)
        named = callable(getattr(type(self.module), "features", None))
        if named and self.layers is None:
            found: Any = self.module.apply(params, inputs, method="features", **options)
            return choose(found, None)
        outputs, state = self.module.apply(
            params,
            inputs,
            method="features" if named else None,
            capture_intermediates=True,
            mutable=["intermediates"],
            **options,
        )
        inner = collect(_calls(state.get("intermediates", {}), ()))
        return choose(outputs, self.layers, inner) if named else choose(inner, self.layers)


def adapt(module: nn.Module, variables: Mapping[str, Any], **call_options: Any) -> Adapted:
    """A Linen module and its variables as `(apply_fn, params)`.

    Args:
      module: an unbound module whose `__call__` takes the inputs [B, ...].
      variables: what `module.init` returned: {"params": …}, and "batch_stats" where it has any.
      **call_options: passed to every call, such as `train=False`.

    Returns:
      `Adapted`: `params` are the variables as a plain dict. For equal modules and options the
      `apply_fn` is equal, so that compiled functions are shared.

    Raises:
      ValueError: if `variables` has no collection "params". At call.

    >>> import jax, jax.numpy as jnp
    >>> model = nn.Dense(3)
    >>> apply_fn, params = adapt(model, model.init(jax.random.key(0), jnp.ones([1, 2])))
    >>> apply_fn(params, jnp.ones([5, 2])).shape
    (5, 3)
    """
    if "params" not in variables:
        raise ValueError(
            "expected the variables of module.init, with the collection 'params', got the keys "
            f"{sorted(map(str, variables))}. Pass {{'params': …}} with the other collections."
        )
    params = flax.core.unfreeze(flax.core.FrozenDict(variables))
    return Adapted(_Apply(module, tuple(sorted(call_options.items()))), params)


def features(
    module: nn.Module, layers: Sequence[str] | None = None, **call_options: Any
) -> FeatureFn:
    """The outputs of a Linen module's layers by name.

    A module with a method `features`, `(inputs) -> {name: array [B, ...]}`, defines its layers;
    names that match none of them are looked up among the outputs of its submodules. Any other
    module returns the output of every submodule's `__call__` under its path ("block_0/conv"; a
    second call "block_0/conv:1"), what it sows as "intermediates", and its output as "output".

    Args:
      module: an unbound module.
      layers: names or regular expressions (whole name), None for all.
      **call_options: passed to every call, such as `train=False`.

    Returns:
      `FeatureFn` on the `params` of `adapt`, in the order in which the layers end. It raises
      ValueError while tracing if a name fits no layer, and lists the known ones.
    """
    return _Features(module, tuple(sorted(call_options.items())), as_layers(layers))


def _calls(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _calls(value, (*path, key))
        else:  # a tuple with one entry a call
            name = "/".join(path if key == "__call__" else (*path, key)) or OUTPUT
            yield from ((name, each) for each in value)
