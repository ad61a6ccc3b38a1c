"""Weights from other libraries: named arrays from their files, and into safetensors."""

import hashlib
import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tlx.checkpoints import archives, bounds, shards, torch_files, weights


def read_tensors(path: str | Path, *, key: str | None = None) -> dict[str, np.ndarray]:
    """The tensors of a file by name, as the library that wrote it calls them.

    The format is detected from the content: torch.save (as a zip file, or as before torch 1.6),
    safetensors, an index of safetensors or torch shards, Flax's msgpack or numpy's npz. Nothing in
    a file is executed, torch is not needed, and what is not weights (an optimiser, options,
    objects of any class) stays unread. `tlx.checkpoints.bounds` says how large a file may be.

    Args:
      path: of the file.
      key: where in a checkpoint the weights are, "a.b" for b in a; None: the only place that has
        named tensors.

    Returns:
      name -> array in the file's dtype and layout, not to be written to; nested names are joined
      by "/".

    Raises:
      ValueError: if the file does not exist, is damaged, of another format, beyond the bounds, or
        has no weights under that key or, without a key, in several places; with the remedy.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"expected a file of weights, but there is no {file}")
    try:
        bounds.require("the file", file.stat().st_size, bounds.FILE_BYTES)
        index = _index(file)
        if index is None:
            return weights.find(_read(file), key)
        return _of_shards(file, index, key)
    except (ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file}: {error}") from error


def digest(path: str | Path) -> str:
    """The SHA-256 of the file; of an index with all its shards.

    Raises:
      ValueError: as `read_tensors`, of an index.
    """
    file, found = Path(path), hashlib.sha256()
    index = _index(file)
    for part in (file, *(shards.files(file, index) if index is not None else ())):
        with part.open("rb") as data:
            while block := data.read(1 << 20):
                found.update(block)
    return found.hexdigest()


def _index(file: Path) -> Any:
    """The content of an index of shards; None of other files."""
    with file.open("rb") as data:
        start = data.read(64)
    is_index = start.lstrip()[:1] == b"{" and start[8:9] != b"{"
    return archives.read_json(file) if is_index or file.name.endswith(".index.json") else None


def _of_shards(file: Path, index: Any, key: str | None) -> dict[str, np.ndarray]:
    if key is not None:
        raise ValueError("expected no --key (key) for an index of shards, which has only weights")

    def read(shard: Path) -> dict[str, np.ndarray]:
        return weights.find(_read(shard), None)

    return shards.gather(file, index, read)


def _read(file: Path) -> Any:
    with file.open("rb") as data:
        start = data.read(64)
    if not start:
        raise ValueError("expected weights, got an empty file")
    if tarfile.is_tarfile(file):
        raise ValueError(
            "a tar archive (a very old torch file, or a packed folder); unpack it, or save its "
            "state dict anew"
        )
    if zipfile.is_zipfile(file):
        with archives.open_zip(file) as archive:
            is_torch = any(name.endswith("/data.pkl") for name in archive.namelist())
        return torch_files.read_zip(file) if is_torch else archives.read_npz(file)
    if start.startswith(torch_files.LEGACY_START):
        return torch_files.read_legacy(file)
    if start[8:9] == b"{":
        return archives.read_safetensors(file)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise ValueError(
            "a pickle that torch did not write; expected torch.save, safetensors, msgpack or npz"
        )
    return archives.read_msgpack(file)


def write_safetensors(
    path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes named arrays to a new file, completely or not at all.

    Args:
      path: of a file that does not exist.
      tensors: name -> array of numbers.
      metadata: texts, kept in the file's header.

    Raises:
      ValueError: if the file exists.
    """
    from safetensors.numpy import save

    file = Path(path)
    if file.exists():
        raise ValueError(f"expected a new file, got {file}; choose another name, or remove it")
    packed = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_bytes(save(packed, dict(metadata)))
    temporary.replace(file)
