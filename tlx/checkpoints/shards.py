"""Weights in several files, with an index that says which tensor is in which."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tlx.checkpoints import bounds

_SHOWN = 8


def files(index: Path, content: Any) -> tuple[Path, ...]:
    """The shards of an index, each once, sorted.

    Raises:
      ValueError: if the index is none, or a shard is not a file beside it.
    """
    return tuple(index.parent / name for name in sorted(set(_places(index, content).values())))


def gather(
    index: Path, content: Any, read: Callable[[Path], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The tensors of all shards.

    Args:
      index: the file.
      content: its JSON, with a "weight_map" from a tensor's name to its shard's.
      read: the tensors of a shard.

    Raises:
      ValueError: as `files`; or a shard lacks what the index says is there.
    """
    places = _places(index, content)
    parts = files(index, content)
    size = sum(part.stat().st_size for part in parts)
    bounds.require("the shards together", size, bounds.FILE_BYTES)
    found: dict[str, np.ndarray] = {}
    for part in parts:
        tensors = read(part)
        wanted = {name for name, shard in places.items() if shard == part.name}
        lacking = sorted(wanted - set(tensors))
        if lacking:
            raise ValueError(f"expected {_listed(lacking)} in the shard {part.name}, got none")
        found |= {name: tensors[name] for name in wanted}  # of two shards that have it the named
    return {name: found[name] for name in places}


def _places(index: Path, content: Any) -> dict[str, str]:
    """Tensor -> name of its shard, a file in the index's folder."""
    places = content.get("weight_map") if isinstance(content, Mapping) else None
    if not isinstance(places, Mapping) or not places:
        raise ValueError('JSON without a "weight_map" of tensors, as an index of shards has it')
    for name, shard in places.items():
        is_name = isinstance(shard, str) and shard not in ("", ".", "..")
        if not is_name or any(sign in shard for sign in "/\\:\0"):
            raise ValueError(
                f"expected the name of a file beside the index for {name[:100]!r}, got "
                f"{str(shard)[:100]!r}"
            )
    lacking = sorted({shard for shard in places.values() if not (index.parent / shard).is_file()})
    if lacking:
        raise ValueError(
            f"expected the shards beside the index, but there is no {_listed(lacking)}"
        )
    return dict(places)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
