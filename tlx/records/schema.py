"""What a record is, and the digest that names it."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tlx.records import names
from tlx.records.results import KINDS

_QUESTION = re.compile(r"[a-z][a-z0-9_]*")
_RESULT = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-/]*")
# Kinds of dtype that .npy stores by itself: bool, ints, floats, complex, text.
_STORABLE = "biufcU"


class Record(NamedTuple):
    """One answer: a question, what it was asked of, and the arrays that came out.

    Attributes:
      question: what was asked, e.g. "distances"; lower case, a folder's name.
      key: JSON-like mapping that, with the question, decides the results. By custom its entries
        are "options", "inputs" (the names that `query` matches), "data" and "version". Floats in
        it are finite.
      results: the NamedTuple of the kind (`tlx.records.results`), or for a kind of one's own a
        mapping of name to array; NaN marks an undefined value. Each is an attribute of the record
        too: `record.barrier_chord`.
      meta: JSON-like mapping that does not decide the results (seconds, versions, …) and is not
        part of the digest.
    """

    question: str
    key: dict[str, Any]
    results: Any
    meta: dict[str, Any]

    @property
    def inputs(self) -> dict[str, Any]:
        """The "inputs" of the key; empty where the key has none."""
        return self.key.get("inputs") or {}

    @property
    def options(self) -> dict[str, Any]:
        """The "options" of the key; empty where the key has none."""
        return self.key.get("options") or {}

    def __getattr__(self, name: str) -> np.ndarray:
        """A result by its name."""
        arrays = as_mapping(self.results)
        if name in arrays:
            return arrays[name]
        raise AttributeError(
            f"a record of {self.question!r} has no result {name!r}{names.nearest(name, arrays)}"
        )


def as_mapping(results: Any) -> Mapping[str, Any]:
    """Results as a mapping of name to array, whichever form they have."""
    return results._asdict() if hasattr(results, "_asdict") else results


def plain(obj: Any, where: str = "value") -> Any:
    """`obj` as JSON has it: dict, list, str, int, float, bool or None.

    Tuples and arrays become lists, numpy scalars Python numbers (a float32 keeps its
    value, so `np.float32(0.1)` is not `0.1`), dataclasses dicts, and -0.0 becomes 0.0.

    Args:
      obj: nested mappings with str keys, sequences, arrays, scalars.
      where: what to call `obj` in a message.

    Raises:
      ValueError: a float is NaN or infinite; the message gives its path.
      TypeError: a value or a mapping's key has no JSON form; the message gives its path.
    """
    if obj is None or isinstance(obj, str | bool | int):
        return obj
    if isinstance(obj, float):
        return _finite(obj, where)
    if isinstance(obj, np.ndarray | np.generic):
        return plain(obj.tolist(), where)
    if isinstance(obj, Mapping):
        for name in obj:
            if not isinstance(name, str):
                raise TypeError(f"{where} has the key {name!r}: expected str keys; write it as str")
        return {name: plain(value, f"{where}.{name}") for name, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [plain(value, f"{where}[{i}]") for i, value in enumerate(obj)]
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        fields = {f.name: getattr(obj, f.name) for f in dataclasses.fields(obj)}
        return plain(fields, where)
    raise TypeError(
        f"{where} is a {type(obj).__name__}, which JSON cannot hold: expected mapping, "
        "list, tuple, array, dataclass, str, number, bool or None; convert it first"
    )


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise ValueError(
            f"{where} is {value}: a key or meta holds finite numbers only, because JSON "
            "has no others; put undefined values into results, or leave them out"
        )
    return float(value) or 0.0  # -0.0 too


def canonical_json(obj: Any, where: str = "value") -> str:
    """The one JSON text of `obj`: sorted keys, no spaces, ASCII, no NaN.

    Equal for any order of a mapping's keys, for tuples and lists, and for numpy and
    Python numbers. `1` and `1.0` are different values.

    Raises:
      ValueError, TypeError: as `plain`.
    """
    return json.dumps(
        plain(obj, where), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True
    )


def digest(obj: Any, where: str = "value") -> str:
    """The sha256 of `canonical_json(obj)`, as 64 hexadecimal digits.

    The same on every machine, Python and numpy version.

    Raises:
      ValueError, TypeError: as `plain`.
    """
    return hashlib.sha256(canonical_json(obj, where).encode("ascii")).hexdigest()


def record_digest(question: str, key: Mapping[str, Any]) -> str:
    """The digest that names the record of `question` and `key`.

    Raises:
      ValueError: a question that is no lower-case name, or a float that is not finite.
      TypeError: a key that JSON cannot hold.
    """
    check_question(question)
    return digest({"question": question, "key": check_key(key)}, "record")


def check_question(question: str) -> str:
    """`question` if it can name a folder; else raises ValueError."""
    if not isinstance(question, str) or not _QUESTION.fullmatch(question):
        raise ValueError(
            f"question is {question!r}: expected a lower-case name of letters, digits and "
            "underscores such as 'similarity'"
        )
    return question


def check_key(key: Mapping[str, Any]) -> dict[str, Any]:
    """The key in plain JSON values; raises ValueError or TypeError with the path."""
    if not isinstance(key, Mapping):
        raise TypeError(f"key is a {type(key).__name__}: expected a mapping, {{'inputs': …}}")
    if not isinstance(key.get("inputs") or {}, Mapping):
        raise TypeError(
            f"key.inputs is a {type(key['inputs']).__name__}: expected a mapping of names to values"
        )
    return plain(key, "key")


def check_results(question: str, results: Any) -> Any:
    """Results as numpy arrays of dtypes that .npz holds by itself, in the form of the question.

    Raises:
      ValueError: a name that is not plain text, or for a kind of `tlx.records.results` one that
        is missing or unknown.
      TypeError: neither the kind's NamedTuple nor a mapping, or a dtype such as object or bfloat16.
    """
    results = as_mapping(results)
    if not isinstance(results, Mapping):
        raise TypeError(f"results is a {type(results).__name__}: expected a mapping to arrays")
    arrays = {}
    for name, value in results.items():
        if not isinstance(name, str) or not _RESULT.fullmatch(name):
            raise ValueError(
                f"results has the name {name!r}: expected letters, digits and any of _ . - /, "
                "a letter or underscore first"
            )
        array = np.asarray(value)
        if array.dtype.kind not in _STORABLE:
            raise TypeError(
                f"results[{name!r}] has dtype {array.dtype}: expected bool, integer, float, "
                "complex or text; cast it (bfloat16 to float32) or split it into arrays"
            )
        arrays[name] = array
    if question not in KINDS:
        return arrays
    form = KINDS[question].results
    needed = [name for name in form._fields if name not in form._field_defaults]
    problems = names.differences(f"the results of {question!r}", arrays, needed, form._fields)
    if problems:
        raise ValueError("; ".join(problems))
    return form(**arrays)


def _check_names(question: str, key: Mapping[str, Any]) -> None:
    """Raises ValueError where inputs or options are not those of the kind."""
    kind = KINDS.get(question)
    if kind is None:
        return
    inputs, options = (key.get(part) or {} for part in ("inputs", "options"))
    problems = [
        *names.differences(f"the inputs of {question!r}", inputs, kind.inputs, kind.more),
        *names.differences(f"the options of {question!r}", options, (), kind.options),
    ]
    if problems:
        raise ValueError("; ".join(problems))


def checked(record: Record) -> Record:
    """The record with plain values and arrays, in the form of its kind.

    Raises:
      ValueError: a part that cannot be stored, a name that its kind has not, or one that it lacks.
      TypeError: a part of a type that cannot be stored, named by its path.
    """
    question, key = check_question(record.question), check_key(record.key)
    _check_names(question, key)
    results = check_results(question, record.results)
    return Record(question, key, results, plain(dict(record.meta), "meta"))


def make_record(
    question: str,
    *,
    inputs: Mapping[str, Any],
    results: Any,
    options: Mapping[str, Any] | None = None,
    data: Any = None,
    version: int | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Record:
    """A checked Record with the key {"options", "inputs", "data", "version"}.

    Args:
      question: lower-case name of what was asked.
      inputs: what it was asked of, e.g. run names and kinds.
      results: the NamedTuple of the kind (`tlx.records.results`), or a mapping of name to array.
      options: options of the analysis; None means none.
      data: what the data were, e.g. a DataSpec or a fingerprint; None means none.
      version: of the question, a number that is raised when what it answers changes; None leaves
        it out of the key.
      meta: seconds, versions, …; None means none.

    Raises:
      ValueError, TypeError: as `checked`.
    """
    key = {"options": options or {}, "inputs": inputs, "data": data}
    if version is not None:
        key["version"] = version
    return checked(Record(question, key, results, dict(meta or {})))
