"""Weights from other libraries: named arrays out of their files, and into safetensors."""

import hashlib
import json
import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from tlx.checkpoints import bounds, pickles, torch_files

KEYS = ("state_dict", "model_state_dict", "model", "net", "params")
"""Where a checkpoint with more in it than weights has them."""

AVERAGED = ("ema", "averaged", "swa", "teacher")
"""Words in the key of a second set of weights, such as their exponential moving average."""

INDEX = ".index.json"
"""How the name of a file ends that says which shard has which tensor."""

_TYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def read_tensors(path: str | Path, *, key: str | None = None) -> dict[str, np.ndarray]:
    """The tensors of a file by name, as the library that wrote it calls them.

    The format is told by the content: torch.save (as a zip file, or as before torch 1.6; with
    or without an epoch or an optimiser beside the weights), safetensors, Flax's msgpack or
    numpy's npz; or by the name of an index of shards, "model.safetensors.index.json". Nothing in a
    file is executed, and torch is not needed.

    Args:
      path: of the file.
      key: where in a checkpoint the weights are, as "model" or "nets.ema"; None: the file itself
        if it holds nothing but arrays, else the one of `KEYS` that is there.

    Returns:
      name -> array in the file's dtype and layout; nested names are joined by "/".

    Raises:
      ValueError: if the file is not there, is damaged, of another format, beyond
        `tlx.checkpoints.bounds`, or has no weights under that key, or several sets of them and no
        key; says what helps.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    try:
        bounds.require("the file", file.stat().st_size, bounds.FILE_BYTES)
        if file.name.endswith(INDEX):
            return _sharded(file)
        return _weights(_read(file), key, file.stat().st_size)
    except (ValueError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(f"{file}: {error}") from error


def digest(path: str | Path) -> str:
    """The sha256 (hex) of a file; of an index, of its own and its shards'."""
    file = Path(path)
    with file.open("rb") as data:
        own = hashlib.file_digest(data, "sha256")
    if file.name.endswith(INDEX):
        for shard in sorted(set(_shards(file).values())):
            own.update(digest(file.with_name(shard)).encode())
    return own.hexdigest()


def _shards(file: Path) -> dict[str, str]:
    """Of each tensor in an index the name of its file, which lies beside it."""
    bounds.require("the index", file.stat().st_size, bounds.HEADER_BYTES)
    content = json.loads(file.read_text())
    found = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not found:
        raise ValueError("expected an index with a weight_map of tensors to files")
    bounds.require("the index", len(found), bounds.TENSORS, "tensors")
    for shard in found.values():
        if not isinstance(shard, str) or shard in ("", ".", "..") or Path(shard).name != shard:
            raise ValueError(f"expected shards beside the index, got {str(shard)[:80]!r}")
    return found


def _sharded(file: Path) -> dict[str, np.ndarray]:
    shards, found = _shards(file), {}
    for shard in dict.fromkeys(shards.values()):
        if not file.with_name(shard).is_file():
            raise ValueError(f"lacks its shard {shard}")
        tensors = read_tensors(file.with_name(shard))
        names = [name for name, where in shards.items() if where == shard]
        lacking = [name for name in names if name not in tensors]
        if lacking:
            raise ValueError(f"{shard} lacks {', '.join(lacking[:5])}, which the index puts there")
        found.update({name: tensors[name] for name in names})
    return {name: found[name] for name in shards}


def _read(file: Path) -> Any:
    with file.open("rb") as data:
        start = data.read(64)
    if tarfile.is_tarfile(file):
        raise ValueError(
            "a tar archive (a very old torch file, or a packed folder); unpack it, or save its "
            "state dict anew"
        )
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            is_torch = any(name.endswith("/data.pkl") for name in archive.namelist())
        return torch_files.read_zip(file) if is_torch else _npz(file)
    if start.startswith(torch_files.LEGACY_START):
        return torch_files.read_legacy(file)
    if start[8:9] == b"{":
        return _safetensors(file)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise ValueError(
            "a pickle that torch did not write; expected torch.save, safetensors, msgpack or npz"
        )
    return _msgpack(file)


def _npz(file: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        limit = bounds.EXPANSION_FREE + bounds.EXPANSION * file.stat().st_size
        bounds.require("its content", sum(info.file_size for info in members), limit)
        if len({info.filename for info in members}) != len(members):
            raise ValueError("several arrays of one name")
        for info in members:
            _check_array(archive, info)
    with np.load(file, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def _check_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Raises unless an array is as large as its header says, before any of it is read."""
    with archive.open(info) as data:
        version = np.lib.format.read_magic(data)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{info.filename} is of numpy's format {version}, not 1.0 or 2.0")
        read = (np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0)
        shape, _, dtype = read[version[0] - 1](data)
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds objects, not numbers")
        size = bounds.size(info.filename, shape, dtype.itemsize)
        if data.tell() + size != info.file_size:
            raise ValueError(
                f"{info.filename} should hold {size:,} bytes, but has "
                f"{info.file_size - data.tell():,}: the file is damaged"
            )


def _safetensors(file: Path) -> dict[str, np.ndarray]:
    import safetensors

    with file.open("rb") as data:
        header = int.from_bytes(data.read(8), "little")
    bounds.require("its header", header, min(bounds.HEADER_BYTES, file.stat().st_size))
    try:
        found = safetensors.deserialize(file.read_bytes())
    except safetensors.SafetensorError as error:
        raise ValueError(f"damaged ({error})") from error
    strange = sorted({entry["dtype"] for _, entry in found} - set(_TYPES))
    if strange:
        raise ValueError(f"tensors of type {', '.join(strange)}; known: {', '.join(_TYPES)}")
    return {
        name: np.frombuffer(entry["data"], _TYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in found
    }


def _msgpack(file: Path) -> Any:
    from flax import serialization

    try:
        return serialization.msgpack_restore(file.read_bytes())
    except Exception as error:  # msgpack raises what it meets
        raise ValueError(
            "of no known format (torch.save, safetensors, Flax's msgpack, npz), or cut off"
        ) from error


def _weights(content: Any, key: str | None, file_bytes: int) -> dict[str, np.ndarray]:
    """The named arrays in what a file holds."""
    if not isinstance(content, Mapping):
        raise ValueError(f"holds {pickles.describe(content)}; expected named tensors")
    if key is None:
        key = _where(content)
    if key is not None:
        content = _at(content, key)
    found, other = _flat(content)
    where = "" if key is None else f"under {key!r} "
    if other is not None:
        raise ValueError(f"{where}there are not only named tensors, but also {other}")
    if not found:
        raise ValueError(f"{where}there are no tensors")
    total = sum(leaf.nbytes for leaf in found.values())
    bounds.require("what it holds", total, bounds.SHARED * (file_bytes + bounds.EXPANSION_FREE))
    return {
        name: leaf.array() if isinstance(leaf, torch_files.Tensor) else np.asarray(leaf)
        for name, leaf in sorted(found.items())
    }


def _where(content: Mapping[str, Any]) -> str | None:
    """The key of the weights; None where they are all that there is."""
    sets = [name for name, value in content.items() if _is_set(value)]
    known = [name for name in sets if name in KEYS or _is_averaged(name)]
    if len(known) < 2 and _is_set(content):
        is_wrapped = len(content) == len(known) and all(map(_is_array, content[known[0]].values()))
        return known[0] if is_wrapped else None
    if len(known) == 1:
        return known[0]
    shown = ", ".join(f"{name} ({len(_flat(content[name])[0])} tensors)" for name in known or sets)
    if known:
        raise ValueError(f"holds several sets of weights: {shown}; choose one by --key")
    named = [name for name in KEYS if name in content]
    if named:
        return named[0]  # what is wrong there is said where it is read
    raise ValueError(
        f"holds {_listed(content)}, and none of {', '.join(KEYS)}; say by --key (the argument key) "
        f"where the weights are" + (f": {shown}" if sets else "")
    )


def _is_averaged(name: Any) -> bool:
    words = str(name).lower().replace(".", "_").split("_")
    return any(word in words for word in AVERAGED)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | torch_files.Tensor)


def _is_set(value: Any) -> bool:
    """Whether a value is nothing but arrays by name, and not too many."""
    if not isinstance(value, Mapping) or not value:
        return False
    try:
        return _flat(value)[1] is None
    except ValueError:
        return False


def _at(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """What lies under a key, or under one in another, "a.b"."""
    found: Any = content
    for part in (key,) if key in content else key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise ValueError(f"has no key {key!r}; it holds {_listed(content)}")
        found = found[part]
    if not isinstance(found, Mapping):
        raise ValueError(f"under {key!r} there is {pickles.describe(found)}, no named tensors")
    return found


def _flat(content: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The arrays in nested mappings by their joined names, and the first thing that is none.

    Raises:
      ValueError: beyond the bounds, which mappings in each other reach with few bytes.
    """
    found: dict[str, Any] = {}
    waiting: list[tuple[str, int, Any]] = [("", 0, content)]
    looked = 0
    while waiting:
        place, depth, at = waiting.pop()
        bounds.require("what it holds", depth, bounds.DEPTH, "levels")
        for name, value in at.items():
            looked += 1
            bounds.require("what it holds", looked, bounds.TENSORS, "values")
            path = f"{place}{name}"
            if isinstance(value, Mapping):
                waiting.append((f"{path}/", depth + 1, value))
            elif not _is_array(value):
                return found, f"{path[:80]} ({pickles.describe(value)})"
            elif path in found:
                raise ValueError(f"two tensors are called {path[:80]}")
            else:
                found[path] = value
    return found, None


def _listed(content: Mapping[str, Any]) -> str:
    names = [str(name)[:80] for name in list(content)[:8]]
    return ", ".join(names) + (f" and {len(content) - 8} more" if len(content) > 8 else "")


def write_safetensors(
    path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes named arrays, whole or not at all.

    Args:
      path: of a file that is not there.
      tensors: name -> array of numbers.
      metadata: texts, kept in the file's header.

    Raises:
      ValueError: if the file is there.
    """
    from safetensors.numpy import save

    file = Path(path)
    if file.exists():
        raise ValueError(f"{file} is there already; choose another name, or remove it")
    packed = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_bytes(save(packed, dict(metadata)))
    temporary.replace(file)
