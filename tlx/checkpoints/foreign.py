"""Weights from other libraries: named arrays out of their files, and into safetensors."""

import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from tlx.checkpoints import torch_files
from tlx.core import tree

KEYS = ("state_dict", "model_state_dict", "model", "net", "params")
"""Where a checkpoint with more in it than weights has them, the first that is there."""

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
    numpy's npz. Nothing in a file is executed, and torch is not needed.

    Args:
      path: of the file.
      key: where in a checkpoint the weights are; None: the file itself if it holds nothing but
        arrays, else the first of `KEYS` that is there.

    Returns:
      name -> array in the file's dtype and layout; nested names are joined by "/".

    Raises:
      ValueError: if the file is not there, is damaged, of another format, wants to execute
        something, or has no weights under that key; says what helps.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    try:
        return _weights(_read(file), key)
    except (ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file}: {error}") from error


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
    with np.load(file, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def _safetensors(file: Path) -> dict[str, np.ndarray]:
    import safetensors

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


def _weights(content: Any, key: str | None) -> dict[str, np.ndarray]:
    """The named arrays in what a file holds."""
    if not isinstance(content, Mapping):
        raise ValueError(f"holds a {type(content).__name__}; expected a mapping of named tensors")
    if key is None and not _all_arrays(content):
        key = next((name for name in KEYS if name in content), None)
        if key is None:
            raise ValueError(
                f"holds {_listed(content)}, and none of {', '.join(KEYS)}; say by --key (the "
                "argument key) where the weights are"
            )
    if key is not None:
        if key not in content:
            raise ValueError(f"has no key {key!r}; it holds {_listed(content)}")
        content = content[key]
    if not isinstance(content, Mapping) or not _all_arrays(content) or not content:
        raise ValueError(f"under {key!r} there are not only named tensors")
    return {name: np.asarray(leaf) for name, leaf in tree.named_leaves(dict(content)).items()}


def _all_arrays(content: Mapping[str, Any]) -> bool:
    return all(
        _all_arrays(value) if isinstance(value, Mapping) else isinstance(value, np.ndarray)
        for value in content.values()
    )


def _listed(content: Mapping[str, Any]) -> str:
    names = [str(name) for name in content]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


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
