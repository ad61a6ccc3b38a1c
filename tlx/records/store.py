"""Records on disk: `<root>/<question>/<digest[:16]>.npz` and `.json`.

The JSON file is written last and holds the sha256 of the arrays' file, so a record is
there exactly when its JSON file is there and fits; whatever a killed writer leaves
behind (a temporary file, arrays without JSON) does not count as a record.

Without this library: `json.load(open(stem + ".json"))` and `numpy.load(stem + ".npz")`.
"""

import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tlx.core import files
from tlx.records.schema import (
    Record,
    as_mapping,
    check_key,
    check_question,
    checked,
    record_digest,
)

FORMAT = 1

SET_ASIDE = "outdated"
"""The folder, in that of a question, of records that are answered anew; nothing reads it."""

_CUSTOMARY = ("inputs", "options", "data", "version")  # entries of a key
_FIELDS = ("format", "question", "digest", "key", "arrays", "npz_sha256", "meta")


def save(root: str | os.PathLike[str], record: Record) -> Path:
    """Writes a record, whole or not at all; the path of its JSON file.

    A whole record of the same question and key stays as it is, whatever the results of
    the new one: the first answer stands until its files are deleted. A damaged one is
    replaced.

    Args:
      root: the records' folder; made where missing.
      record: what to write.

    Raises:
      ValueError, TypeError: a part that cannot be stored, named by its path; nothing
            has been written then.
      OSError: the disk; no record has appeared then.
    """
    record = checked(record)
    key, arrays = record.key, as_mapping(record.results)
    path = _path(root, record.question, key)
    if _read_or_none(path) is not None:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # The old JSON file goes first: at no time does it stand beside other arrays.
    path.unlink(missing_ok=True)
    packed = _pack(arrays)
    described = {
        "format": FORMAT,
        "question": record.question,
        "digest": record_digest(record.question, key),
        "key": key,
        "arrays": {n: {"dtype": str(a.dtype), "shape": list(a.shape)} for n, a in arrays.items()},
        "npz_sha256": hashlib.sha256(packed).hexdigest(),
        "meta": record.meta,
    }
    text = json.dumps(described, indent=1, allow_nan=False) + "\n"
    _write(path.with_suffix(".npz"), packed)
    _write(path, text.encode("ascii"))
    return path


def load(path: str | os.PathLike[str]) -> Record:
    """The record in `path`, checked against its digests and the fields of its kind.

    Args:
      path: its `.json` or `.npz` file, or the two's common stem.

    Returns:
      The record; tuples of the key that was saved are lists now.

    Raises:
      ValueError: no such record, a file missing or damaged, or a format that this
            version does not know; says which file and what to do.
    """
    path = Path(path)
    if path.suffix not in (".json", ".npz"):
        path = path.with_name(path.name + ".json")
    return _read(path.with_suffix(".json"))


def find(root: str | os.PathLike[str], question: str, key: Mapping[str, Any]) -> Record | None:
    """The whole record of `question` and `key`, or None.

    A damaged record counts as absent, so that it is computed again and replaced.

    Raises:
      ValueError, TypeError: a question or key that no record can have.
    """
    return _read_or_none(_path(root, question, check_key(key)))


def outdated(
    root: str | os.PathLike[str], question: str, key: Mapping[str, Any]
) -> dict[Path, dict[str, Any]]:
    """The records that an answer to `question` and `key` takes the place of.

    They are about the same inputs, and differ in more than the options: in the data, or
    in the version of the question. (What differs in options alone is another question.)

    Returns:
      The path of each one's JSON file, with its key.
    """
    ours = check_key(key)
    found = {}
    for path in sorted((Path(root) / check_question(question)).glob("*.json")):
        try:
            theirs = _read_json(path)["key"]
        except ValueError:
            continue
        same = {name: theirs.get(name) == ours.get(name) for name in _CUSTOMARY}
        is_another = not (same["data"] and same["version"])
        if same["inputs"] and is_another and (same["options"] or not same["version"]):
            found[path] = theirs
    return found


def sweep(root: str | os.PathLike[str]) -> None:
    """Removes the temporary files that killed writers have left, where nobody writes now."""
    for path in Path(root).glob("*/.*.tmp"):
        path.unlink(missing_ok=True)


def set_aside(path: Path) -> None:
    """Moves a record to where nothing reads it; its files stay as they are.

    Args:
      path: its JSON file, which goes first, so that at no time half a record is there.
    """
    folder = path.parent / SET_ASIDE
    folder.mkdir(exist_ok=True)
    for file in (path, path.with_suffix(".npz")):
        if file.exists():
            file.replace(folder / file.name)


def _path(root: str | os.PathLike[str], question: str, key: Mapping[str, Any]) -> Path:
    name = record_digest(question, key)[:16]
    return Path(root) / check_question(question) / f"{name}.json"


def _read_or_none(path: Path) -> Record | None:
    try:
        return _read(path)
    except ValueError:
        return None


def _read(path: Path) -> Record:
    described = _read_json(path)
    digest = record_digest(described["question"], described["key"])
    if digest != described["digest"] or not digest.startswith(path.stem):
        raise ValueError(
            f"record {path}: its key has the digest {digest[:16]}, but the file says "
            f"{str(described['digest'])[:16]} and is called {path.stem}. {_REPAIR}"
        )
    arrays = path.with_suffix(".npz")
    try:
        packed = arrays.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"record {path}: its file {arrays.name} is missing. {_REPAIR}") from None
    sha256 = hashlib.sha256(packed).hexdigest()
    if sha256 != described["npz_sha256"]:
        raise ValueError(
            f"record {path}: its arrays {arrays.name} are damaged or of another record "
            f"(sha256 {sha256[:16]}, expected {str(described['npz_sha256'])[:16]}). {_REPAIR}"
        )
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        results = {name: file[name] for name in described["arrays"]}
    found = Record(described["question"], described["key"], results, described["meta"])
    try:
        return checked(found)
    except ValueError as error:
        raise ValueError(f"record {path}: {error}. {_REPAIR}") from None


_REPAIR = "Delete its .json and .npz files and run the study again: only this record is redone."


def _read_json(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no record at {path}: the file does not exist") from None
    except ValueError as error:
        raise ValueError(f"record {path}: not JSON ({error}). {_REPAIR}") from None
    if not isinstance(described, dict) or not isinstance(described.get("key", {}), dict):
        raise ValueError(f"record {path}: not a record, but other JSON. {_REPAIR}")
    missing = [f for f in _FIELDS if f not in described]
    if missing:
        raise ValueError(f"record {path}: not a record, it lacks {', '.join(missing)}. {_REPAIR}")
    if described["format"] != FORMAT:
        raise ValueError(
            f"record {path}: format {described['format']!r}, but this version of tlx reads "
            f"format {FORMAT}; read it with the version that wrote it"
        )
    return described


def _pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of an .npz file; equal arrays give equal bytes (no dates)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getvalue())
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    """Writes `path` so that it holds all of `data` or is not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with files.placed(path), open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename is on disk once its folder is
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
