"""Models of Linen, NNX, Equinox and Haiku as pure functions on one pytree of parameters.

Every adapter has the same two functions; import the one of your framework
(`from tlx.adapters import linen`), since each imports its framework:

- `adapt(model…, **call_options) -> Adapted(apply_fn, params)`: the model in evaluation
  mode, and everything that determines its output, batch statistics included. Adapt two
  models of one architecture and use either `apply_fn` with both `params`.
- `features(model…, layers=None, **call_options) -> FeatureFn`: the outputs of the layers
  by name, in the order in which they end, on the same `params`.
"""

import contextlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tlx.core import checks
from tlx.core.types import ApplyFn, Params

OUTPUT = "output"
"""The name under which `features` returns the output of the entire model."""

_PATCHING = threading.RLock()


class Adapted(NamedTuple):
    """A model as the analyses take it.

    Attributes:
      apply_fn: `(params, inputs [B, ...]) -> outputs [B, ...]`, pure, evaluation mode.
      params: pytree of arrays, batch statistics included; the first argument of `apply_fn`.
    """

    apply_fn: ApplyFn
    params: Params


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


def collect(calls: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Recorded calls by name; the second call of a layer becomes "name:1", and so on.

    An output that is a tuple (value, state) counts as its value; other than arrays is left out.
    """
    out: dict[str, Any] = {}
    times: dict[str, int] = {}
    for name, value in calls:
        value = value[0] if isinstance(value, tuple) and value else value
        if isinstance(value, jax.Array | np.ndarray):
            count = times.get(name, 0)
            times[name] = count + 1
            out[f"{name}:{count}" if count else name] = value
    return out


@contextlib.contextmanager
def recording(modules: Mapping[str, Any]) -> Iterator[list[tuple[str, Any]]]:
    """Records (name, output) of every call of the given objects while the context is open.

    For frameworks without hooks: the `__call__` of the objects' classes is
    replaced for as long as one forward pass is traced, under a lock, and put back.
    """
    calls: list[tuple[str, Any]] = []
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
                type.__setattr__(owner, "__call__", _recorder(original, names, calls))
            yield calls
        finally:
            for owner, original in owners.items():
                type.__setattr__(owner, "__call__", original)


def _recorder(original: Any, names: Mapping[int, str], calls: list[tuple[str, Any]]) -> Any:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        call: Callable[..., Any] = original.__get__(self, type(self))
        out = call(*args, **kwargs)
        if id(self) in names:
            calls.append((names[id(self)], out))
        return out

    return __call__
