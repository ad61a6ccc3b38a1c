"""Models of Linen, NNX, Equinox and Haiku as pure functions on one pytree of parameters.

Every adapter has the same two functions; import the one of your framework
(`from tlx.adapters import linen`), since each imports its framework:

- `adapt(model…, call=None, output=None, **call_options) -> Adapted(apply_fn, params)`: the model in
  evaluation mode, and everything that determines its output, as {"params": …} with "state" or
  "batch_stats" beside it. Adapt two models of one architecture and use either `apply_fn` with
  both `params`.
- `features(model…, layers=None, call=None, output=None, **call_options) -> FeatureFn`: the
  outputs of the layers by name, in the order in which they end, on the same `params`.

A model that takes several arrays, or returns several, needs a word on either side:

    adapt(model, call=lambda model, x: model(x["ids"], x["mask"]), output=lambda out: out[0])

Outputs of layers that are no single array are named after their place: "block/0" and "block/1" of
a pair, "lstm/1/hidden" of a named tuple; one that holds a single array has the layer's name.
"""

import contextlib
import dataclasses
import functools
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import get_opaque_trace_state

from tlx.core import checks, contracts
from tlx.core.types import ApplyFn, Params

OUTPUT = "output"
"""The name under which `features` returns the output of the entire model."""

Call = Callable[..., Any]
"""`(model, inputs, **call_options) -> outputs`: how a model is called; None: `model(inputs)`."""

Output = Callable[[Any], Any]
"""What of a model's outputs is evaluated; None: all of it."""

_PATCHING = threading.RLock()


class Adapted(NamedTuple):
    """A model as the analyses take it.

    Attributes:
      apply_fn: `(params, inputs [B, ...]) -> outputs [B, ...]`, pure, evaluation mode.
      params: pytree of arrays, batch statistics included; the first argument of `apply_fn`.
    """

    apply_fn: ApplyFn
    params: Params


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Function:
    """A function that equals those made of equal things, so that compiled code is shared.

    One that holds what cannot be hashed (a config that is a plain dataclass, an array or a key
    among the options) equals itself alone.
    """

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._made_of == self._made_of

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__.strip('_').lower()}>"

    @functools.cached_property
    def _made_of(self) -> Any:
        parts = tuple(getattr(self, field.name) for field in dataclasses.fields(self))
        try:
            hash(parts)
        except TypeError:
            return object()
        return parts

    @functools.cached_property
    def _hash(self) -> int:
        return hash((type(self), self._made_of))


def options_of(call_options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Call options in one order, whatever theirs was."""
    return tuple(sorted(call_options.items()))


def chosen(outputs: Any, output: Output | None) -> Any:
    """What of a model's outputs is evaluated."""
    return outputs if output is None else output(outputs)


def choose(
    outputs: Mapping[str, jax.Array],
    layers: Sequence[str] | None,
    inner: Mapping[str, jax.Array] | None = None,
) -> OrderedDict[str, Any]:
    """The wanted entries of `outputs`.

    Args:
      outputs: layer name to array, in the order of the forward pass.
      layers: names or regular expressions (`re.fullmatch`), in the order in which they are
        wanted; None takes all. A layer wanted twice is given once.
      inner: further layers, for names that match none in `outputs`.

    Returns:
      An OrderedDict, which keeps its order through `jax.jit` where a dict is sorted.

    Raises:
      ValueError: if a name or expression fits no layer; lists the known ones. While tracing.
    """
    if layers is None:
        return OrderedDict(outputs)
    out: OrderedDict[str, Any] = OrderedDict()
    for wanted in layers:
        for known in (outputs, inner or {}):
            names = [wanted] if wanted in known else [n for n in known if _matches(wanted, n)]
            out.update((name, known[name]) for name in names)
            if names:
                break
        else:
            raise ValueError(checks.unknown("layer", wanted, [*outputs, *(inner or {})]))
    return out


def choose_rows(
    outputs: Mapping[str, jax.Array], layers: Sequence[str] | None, inputs: Any
) -> OrderedDict[str, Any]:
    """The wanted entries of `outputs`, of those with a row for each input.

    The others are left out and listed in a warning (such as the counter of a cache, or tokens of
    all examples on one axis).

    Raises:
      ValueError: if one of those is wanted; and as `choose`.
    """
    rows = contracts.num_rows(inputs)
    shapes = {name: np.shape(x) for name, x in outputs.items() if np.shape(x)[:1] != (rows,)}
    kept = {name: x for name, x in outputs.items() if name not in shapes}
    listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    for wanted in layers or ():
        if wanted in shapes:
            raise ValueError(
                f"expected layers with a row for each of {rows} inputs, got {wanted} "
                f"{list(shapes[wanted])}; leave it out of layers="
            )
    if shapes and layers is None:
        warnings.warn(f"layers without a row for each input are left out: {listed}", stacklevel=2)
    return choose(kept, layers)


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:  # such as a name with brackets that no layer has
        return False


def as_layers(layers: Sequence[str] | None) -> tuple[str, ...] | None:
    """A `layers` argument, checked and hashable.

    Raises:
      TypeError: if it is a single str or holds anything but str.
    """
    if layers is None:
        return None
    if isinstance(layers, str) or not all(isinstance(name, str) for name in layers):
        raise TypeError(f"expected layers as a sequence of str, or None, got {layers!r}")
    return tuple(layers)


def collect(calls: Iterable[tuple[str, Any]], skip: tuple[type, ...] = ()) -> dict[str, Any]:
    """The arrays of recorded calls by name; the second call of a layer becomes "name:1", and so on.

    Of several arrays in an output each has its place in its name; what is of the types in `skip`,
    and what is no array, does not count.
    """
    out: dict[str, Any] = {}
    times: dict[str, int] = {}
    for name, value in calls:
        flat = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda x: isinstance(x, skip))[0]
        arrays = [(path, x) for path, x in flat if isinstance(x, jax.Array | np.ndarray)]
        if not arrays:
            continue
        count = times.get(name, 0)
        times[name] = count + 1
        layer = f"{name}:{count}" if count else name
        if len(arrays) == 1:
            out[layer] = arrays[0][1]
            continue
        for path, x in arrays:
            place = jax.tree_util.keystr(path, simple=True, separator="/")
            taken = f"{layer}/{place}" in out  # by a submodule of that name
            out[f"{layer}/{OUTPUT}/{place}" if taken else f"{layer}/{place}"] = x
    return out


@contextlib.contextmanager
def recording(modules: Mapping[str, Any]) -> Iterator[list[tuple[str, Any]]]:
    """Records (name, output) of every call of the given objects while the context is open.

    For frameworks without hooks: the `__call__` of the objects' classes is
    replaced for as long as one forward pass is traced, under a lock, and put back. What is called
    inside of a transformation (jax.vmap, lax.scan) has no output here: left out, with a warning.
    """
    calls: list[tuple[str, Any]] = []
    inside: list[str] = []
    here = get_opaque_trace_state(convention="flax")

    def record(name: str, out: Any) -> None:
        if get_opaque_trace_state(convention="flax") == here:
            calls.append((name, out))
        else:
            inside.append(name)

    names = {id(module): name for name, module in modules.items()}
    owners = {
        owner: owner.__dict__["__call__"]
        for module in modules.values()
        for owner in [next((c for c in type(module).__mro__ if "__call__" in c.__dict__), None)]
        if owner is not None
    }
    with _PATCHING:
        try:
            for owner, original in owners.items():
                # type.__setattr__: a framework's metaclass may refuse or wrap the assignment
                type.__setattr__(owner, "__call__", _recorder(original, names, record))
            yield calls
        finally:
            for owner, original in owners.items():
                type.__setattr__(owner, "__call__", original)
    if inside:
        listed = ", ".join(dict.fromkeys(inside))
        warnings.warn(
            f"layers called inside of jax.vmap, lax.scan or jax.jit are left out: {listed}",
            stacklevel=2,
        )


def _recorder(original: Any, names: Mapping[int, str], record: Callable[[str, Any], None]) -> Any:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        call: Callable[..., Any] = original.__get__(self, type(self))
        out = call(*args, **kwargs)
        if id(self) in names:
            record(names[id(self)], out)
        return out

    return __call__
