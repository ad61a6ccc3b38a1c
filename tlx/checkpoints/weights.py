"""The place of the weights in a checkpoint."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tlx.checkpoints import bounds
from tlx.checkpoints.pickles import Inert, Name
from tlx.checkpoints.torch_files import CONVERT, Tensor

KEYS = ("state_dict", "model_state_dict", "model", "net", "params")
"""The usual keys of weights; mappings with dotted names are detected under any key."""

_COLLECTIONS = ("params", "batch_stats")
_LEVELS = 3
_SHOWN = 8


def find(content: Any, key: str | None) -> dict[str, np.ndarray]:
    """The named arrays in what a file holds.

    Args:
      content: of the file; of torch's with a `Tensor` for each tensor.
      key: where the weights are; None: the only place that has some.

    Returns:
      name -> array; nested names are joined by "/", in their order.

    Raises:
      ValueError: there are none, there is a choice, or other things are among them.
    """
    if isinstance(content, Inert | Name):
        raise ValueError(_refused(content))
    if not isinstance(content, Mapping):
        raise ValueError(f"expected a mapping of named tensors, got {_kind(content)}")
    if key is None:
        places = _places(content)
        if len(places) > 1:
            raise ValueError(
                f"expected weights in one place, got {_listed(places)}; choose one by --key (the "
                "argument key)"
            )
        key, found = next(iter(places.items()), ("", content))
    else:
        places, found = {}, _at(content, key)
    if isinstance(found, Inert | Name):
        raise ValueError(_refused(found))
    where = f"under {key!r} " if key else ""
    if not isinstance(found, Mapping) or not found:
        kind = "none" if isinstance(found, Mapping) else _kind(found)
        raise ValueError(f"{where}expected only named tensors, got {kind}")
    leaves = {n: x for n, x in _flat(found).items() if not _is_extra(n, x)}
    strange = {name: leaf for name, leaf in leaves.items() if not _is_array(leaf)}
    if not key and not places and (strange or not leaves):
        hint = next((value for value in strange.values() if isinstance(value, Inert | Name)), None)
        raise ValueError(
            ("" if hint is None else f"{_refused(hint)}; ")
            + f"expected named tensors, also under one of {', '.join(KEYS)}, got "
            f"{_listed(content)}; say by --key (the argument key) where the weights are"
        )
    if strange or not leaves:
        shown = ", ".join(f"{name} ({_kind(strange[name])})" for name in list(strange)[:_SHOWN])
        raise ValueError(f"{where}expected only named tensors, got {shown or 'none'}")
    return _arrays(leaves)


def _places(content: Mapping[Any, Any]) -> dict[str, Mapping[Any, Any]]:
    """Path -> mapping of named tensors; each mapping once, optimisers left out."""
    if _is_flat(content):
        return {"": content}
    found: dict[str, Mapping[Any, Any]] = {}
    seen: set[int] = set()
    level: list[tuple[str, Mapping[Any, Any]]] = [("", content)]
    for _ in range(_LEVELS + 1):
        inner = []
        for path, mapping in level:
            if id(mapping) in seen:
                continue
            seen.add(id(mapping))
            bounds.require("it", len(seen), bounds.TENSORS, "mappings")
            variables = _flax(mapping)
            if variables:
                found |= {f"{path}.{name}".strip("."): tree for name, tree in variables.items()}
            elif path and _is_state(mapping, path.rpartition(".")[2]):
                found[path] = mapping
            else:
                inner += [
                    (f"{path}.{key}".lstrip("."), value)
                    for key, value in mapping.items()
                    if isinstance(key, str)
                    and isinstance(value, Mapping)
                    and not _is_optimiser(key)
                ]
        level = inner
    return found


def _is_extra(key: Any, value: Any) -> bool:
    """Whether it is the extra state of a module of torch's that keeps none."""
    return value is None and isinstance(key, str) and key.endswith("_extra_state")


def _is_state(mapping: Mapping[Any, Any], key: str) -> bool:
    """Whether it is a state dict: flat, under a usual key or with dotted names."""
    texts = [name for name in mapping if isinstance(name, str)]
    is_usual = key in KEYS or "ema" in key.lower().split("_") or key.endswith("state_dict")
    return (is_usual and _is_flat(mapping)) or (
        any("." in name and _is_array(mapping[name]) for name in texts)
    )


def _is_flat(mapping: Mapping[Any, Any]) -> bool:
    kept = [value for key, value in mapping.items() if not _is_extra(key, value)]
    return bool(kept) and all(map(_is_array, kept))


def _flax(mapping: Mapping[Any, Any]) -> dict[str, Mapping[Any, Any]]:
    """Flax's variables, collections of trees, and whatever else has tensors; by path.

    Empty if the mapping is none of Flax's.
    """
    params = mapping.get("params")
    if not isinstance(params, Mapping) or not any(isinstance(v, Mapping) for v in params.values()):
        return {}
    rest = {
        str(key): value
        for key, value in mapping.items()
        if key not in _COLLECTIONS and not _is_optimiser(str(key)) and _has_tensors(value)
    }
    if rest:
        return {"params": params} | rest
    return {"": {name: mapping[name] for name in _COLLECTIONS if name in mapping}}


def _has_tensors(value: Any) -> bool:
    """Whether a mapping has a tensor at any depth."""
    seen, queue = {id(value)}, [value]
    while queue:
        inner = queue.pop()
        if isinstance(inner, Mapping):
            if any(_is_array(item) for item in inner.values()):
                return True
            new = [item for item in inner.values() if id(item) not in seen]
            seen |= {id(item) for item in new}
            queue += new
    return False


def _is_optimiser(key: str) -> bool:
    return "optim" in key.lower() or "opt_state" in key.lower()


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor)


def _at(content: Mapping[Any, Any], key: str) -> Any:
    """What is under the key, or under the keys between its dots."""
    if key in content:
        return content[key]
    found: Any = content
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            places = _places(content)
            more = f"; there are weights under {_listed(places)}" if any(places) else ""
            raise ValueError(f"expected the key {key!r}, got {_listed(content)}{more}")
        found = found[part]
    return found


def _flat(content: Mapping[Any, Any]) -> dict[str, Any]:
    """The values by joined name; a bounded number, however mappings are within each other."""
    found: dict[str, Any] = {}
    for count, (name, value) in enumerate(_walk(content)):
        bounds.require("it", count, bounds.TENSORS, "named values")
        if name in found:
            raise ValueError(f"expected different names, got {name[:100]!r} twice")
        found[name] = value
    return found


def _walk(content: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    visits, levels = 0, [("", iter(content.items()))]
    while levels:
        prefix, items = levels[-1]
        for key, value in items:
            visits += 1
            bounds.require("it", visits, bounds.TENSORS, "named values and mappings")
            name = f"{prefix}{key if isinstance(key, str) else _key(key)}"
            if isinstance(value, Mapping):
                bounds.require("it", len(levels), bounds.DEPTH, "mappings in mappings")
                bounds.require("a name", len(name), 1 << 16, "letters")
                levels.append((f"{name}/", iter(value.items())))
                break
            yield name, value
        else:
            levels.pop()


def _key(key: Any) -> str:
    return str(key) if isinstance(key, int) else _kind(key)


def _arrays(leaves: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The values; tensors that share a storage may be no more than its size allows."""
    tensors = [leaf for leaf in leaves.values() if isinstance(leaf, Tensor)]
    storages = {id(t.storage): t.storage.size * t.storage.dtype.itemsize for t in tensors}
    found = {n: x.array() if isinstance(x, Tensor) else x for n, x in leaves.items()}
    if tensors:
        used = sum(array.nbytes for array in found.values())
        most = max(bounds.INFLATED_BYTES, bounds.SHARED * sum(storages.values()))
        bounds.require("all its tensors together", used, most)
    return dict(sorted(found.items()))


def _refused(value: Inert | Name) -> str:
    name = value.name if isinstance(value, Inert) else str(value)
    return (
        f"it wants {name}, which is not among what weights are made of; nothing was executed. "
        f"{CONVERT}"
    )


def _kind(value: Any) -> str:
    if isinstance(value, Inert | Name):
        return f"an object of {value.name if isinstance(value, Inert) else value}"
    return f"a {type(value).__name__}"


def _listed(content: Mapping[Any, Any]) -> str:
    names = [name[:100] if isinstance(name, str) else _key(name) for name in content]
    return ", ".join(names[:_SHOWN]) + (
        f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    )
