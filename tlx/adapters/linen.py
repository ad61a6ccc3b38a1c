"""Flax Linen modules as pure functions on their variables."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax
import jax
from flax import linen as nn

from tlx.adapters import (
    OUTPUT,
    Adapted,
    Call,
    Function,
    Output,
    as_layers,
    choose,
    choose_rows,
    chosen,
    collect,
    options_of,
)
from tlx.core import public
from tlx.core.types import FeatureFn, Params

__dir__ = public.names(__name__)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Apply(Function):
    module: nn.Module
    call: Call | None
    output: Output | None
    options: tuple[tuple[str, Any], ...]

    def __call__(self, params: Params, inputs: Any) -> Any:
        found = self.module.apply(params, inputs, method=self.call, **dict(self.options))
        return chosen(found, self.output)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Features(_Apply):
    layers: tuple[str, ...] | None

    def __call__(self, params: Params, inputs: Any) -> Mapping[str, jax.Array]:
        options = dict(self.options)
        named = self.call is None and callable(getattr(type(self.module), "features", None))
        if named and self.layers is None:
            found: Any = self.module.apply(params, inputs, method="features", **options)
            return choose(found, None)
        found, state = self.module.apply(
            params,
            inputs,
            method="features" if named else self.call,
            capture_intermediates=True,
            mutable=["intermediates"],
            **options,
        )
        calls = [each for each in _calls(state.get("intermediates", {}), ()) if each[0] != OUTPUT]
        if named:
            return choose(found, self.layers, collect(calls))
        all_calls = [*calls, (OUTPUT, chosen(found, self.output))]
        return choose_rows(collect(all_calls), self.layers, inputs)


def adapt(
    module: nn.Module,
    variables: Mapping[str, Any],
    *,
    call: Call | None = None,
    output: Output | None = None,
    **call_options: Any,
) -> Adapted:
    """A Linen module and its variables as `(apply_fn, params)`.

    Args:
      module: an unbound module whose `__call__` takes the inputs [B, ...].
      variables: what `module.init` returned: {"params": …}, and "batch_stats" where it has any.
      call: `(module, inputs, **call_options) -> outputs`, for a module that takes several
        arguments or another method: `lambda m, x: m(x["ids"], x["mask"])`.
      output: what of the outputs is evaluated: `lambda out: out[0]`; None: all.
      **call_options: passed to every call, such as `train=False`.

    Returns:
      `Adapted`: `params` are the variables as a plain dict. For equal modules, functions and
      options the `apply_fn` is equal, so that compiled functions are shared.

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
    return Adapted(_Apply(module, call, output, options_of(call_options)), params)


def features(
    module: nn.Module,
    layers: Sequence[str] | None = None,
    *,
    call: Call | None = None,
    output: Output | None = None,
    **call_options: Any,
) -> FeatureFn:
    """The outputs of a Linen module's layers by name.

    A module with a method `features`, `(inputs) -> {name: array [B, ...]}`, defines its layers
    (unless `call` is given); names that match none of them are looked up among the outputs of its
    submodules. Any other module returns the output of every submodule's `__call__` under its path
    ("block_0/conv"; a second call "block_0/conv:1"; several arrays "block_0/0", "block_0/1"), what
    it sows as "intermediates", and its output as "output".

    Args:
      module: an unbound module.
      layers: names or regular expressions (whole name), None for all.
      call: as in `adapt`.
      output: as in `adapt`; of "output" alone.
      **call_options: passed to every call, such as `train=False`.

    Returns:
      `FeatureFn` on the `params` of `adapt`, in the order in which the layers end. While tracing
      it raises ValueError if a name fits no layer, and lists the known ones; layers without a row
      for each input are left out, and listed in a warning.
    """
    return _Features(module, call, output, options_of(call_options), as_layers(layers))


def _calls(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _calls(value, (*path, key))
        else:  # a tuple with one entry a call
            name = "/".join(path if key == "__call__" else (*path, key)) or OUTPUT
            yield from ((name, each) for each in value)
