"""Equinox modules, written for one example, as pure functions on batches."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax

from tlx.adapters import (
    OUTPUT,
    Adapted,
    Call,
    Function,
    Output,
    as_layers,
    choose,
    chosen,
    collect,
    options_of,
    recording,
)
from tlx.core import public, tree
from tlx.core.types import FeatureFn, Params

__dir__ = public.names(__name__)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Apply(Function):
    static: Any
    state: Any  # what of it is no parameter
    call: Call | None
    output: Output | None
    options: tuple[tuple[str, Any], ...]

    def __call__(self, params: Params, inputs: Any) -> Any:
        model = eqx.combine(params["params"], self.static)
        state = _with_leaves(model, self.state, params.get("state", {}))
        return jax.vmap(lambda x: self.of_one(model, state, x))(inputs)

    def of_one(self, model: Any, state: Any, x: Any) -> Any:
        return self.run(model, state, x)

    def run(self, model: Any, state: Any, x: Any) -> Any:
        given = (x,) if state is None else (x, state)
        options = dict(self.options)
        found = self.call(model, *given, **options) if self.call else model(*given, **options)
        if state is None:
            return chosen(found, self.output)
        if not (isinstance(found, tuple) and len(found) == 2):
            raise TypeError(
                "expected a model that is given its state to return (outputs, state), got "
                f"{type(found).__name__}; leave state out of adapt, or return it"
            )
        return chosen(found[0], self.output)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Features(_Apply):
    layers: tuple[str, ...] | None

    def of_one(self, model: Any, state: Any, x: Any) -> Any:
        with recording(dict(_modules(model, ()))) as calls:
            out = self.run(model, state, x)
        return choose(collect([*calls, (OUTPUT, out)], skip=(eqx.nn.State,)), self.layers)


def adapt(
    model: Any,
    state: eqx.nn.State | None = None,
    *,
    call: Call | None = None,
    output: Output | None = None,
    **call_options: Any,
) -> Adapted:
    """An Equinox module as `(apply_fn, params)`.

    Args:
      model: a callable module for one example, `model(x, **call_options)`, or
        `model(x, state, **call_options) -> (output, state)` where `state` is given.
      state: the second result of `eqx.nn.make_with_state` for models with batch statistics.
      call: `(model, x, **call_options) -> outputs` of one example, or with state
        `(model, x, state, **call_options) -> (outputs, state)`, for a model that takes several
        arguments or another method: `lambda m, x: m(x["ids"], x["mask"])`.
      output: what of the outputs (without state) is evaluated: `lambda out: out[0]`; None: all.
      **call_options: passed to every call.

    Returns:
      `Adapted`: `apply_fn` maps the model over the batch in inference mode; `params` is
      {"params": model}, with None in place of everything but floating (or complex) arrays, and
      with state also "state": its arrays, each in the place of its layer.

    >>> import jax, jax.numpy as jnp
    >>> apply_fn, params = adapt(eqx.nn.Linear(2, 3, key=jax.random.key(0)))
    >>> apply_fn(params, jnp.ones([5, 2])).shape
    (5, 3)
    """
    params, static, rest = _partition(model, state)
    return Adapted(_Apply(static, rest, call, output, options_of(call_options)), params)


def features(
    model: Any,
    layers: Sequence[str] | None = None,
    *,
    state: eqx.nn.State | None = None,
    call: Call | None = None,
    output: Output | None = None,
    **call_options: Any,
) -> FeatureFn:
    """The outputs of an Equinox module's layers by name.

    Names are the paths of submodules ("layers/0/conv"; a second call "layers/0/conv:1"; several
    arrays "layers/0/0", "layers/0/1") and "output" for the module itself; of an output
    (value, state) the value counts.

    Args:
      model: a callable module for one example, as in `adapt`.
      layers: names or regular expressions (whole name), None for all.
      state: as in `adapt`.
      call: as in `adapt`.
      output: as in `adapt`; of "output" alone.
      **call_options: passed to every call.

    Returns:
      `FeatureFn` on the `params` of `adapt`, in the order in which the layers end. It raises
      ValueError while tracing if a name fits no layer, and lists the known ones. A submodule
      that the model calls inside of a transformation (`jax.vmap`, `lax.scan`) has no output to
      return, and is left out with a warning.
    """
    _, static, rest = _partition(model, state)
    return _Features(static, rest, call, output, options_of(call_options), as_layers(layers))


def _partition(model: Any, state: Any) -> tuple[Params, Any, Any]:
    """The parameters, the rest of the model, and the state."""
    model = eqx.nn.inference_mode(model)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    params = {"params": arrays}
    if state is not None:
        params["state"] = tree.nested(
            {
                name: x
                for name, index, place in _entries(model, state)
                if eqx.is_inexact_array(x := _leaves(state.get(index))[place])
            }
        )
    return params, static, state


def _with_leaves(model: Any, state: Any, leaves: Any) -> Any:
    """The state with other values at the given names."""
    if state is None:
        return None
    found = tree.named_leaves(leaves)
    state = jax.tree.map(lambda x: x, state)  # one that is set is used up
    for name, index, place in list(_entries(model, state)):
        if name in found:
            values, treedef = jax.tree.flatten(state.get(index))
            values[place] = found[name]
            state = state.set(index, jax.tree.unflatten(treedef, values))
    return state


def _leaves(value: Any) -> list[Any]:
    return list(jax.tree.leaves(value))


def _entries(model: Any, state: Any) -> Iterator[tuple[str, Any, int]]:
    """A name, the index and the number of each array of a state: "norm/mean_0" of layer "norm"."""

    def is_index(node: Any) -> bool:
        return isinstance(node, eqx.nn.StateIndex)

    seen = set()
    for path, node in jax.tree_util.tree_flatten_with_path(model, is_leaf=is_index)[0]:
        if is_index(node) and node.marker not in seen:
            seen.add(node.marker)
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            for place in range(len(_leaves(state.get(node)))):
                yield f"{name}_{place}", node, place


def _modules(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Every callable module in a module's fields, lists, tuples and dicts, by path."""
    if isinstance(node, eqx.Module):
        if callable(node) and path:
            yield "/".join(path), node
        children = {f.name: getattr(node, f.name, None) for f in dataclasses.fields(node)}
    elif isinstance(node, Mapping):
        children = {str(key): value for key, value in node.items()}
    elif isinstance(node, list | tuple):
        children = {str(i): value for i, value in enumerate(node)}
    else:
        return
    for key, child in children.items():
        yield from _modules(child, (*path, key))
