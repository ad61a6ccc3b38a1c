"""Specs as JSON values and back."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tlx.train import typed
from tlx.train.spec import RunSpec

_LATER: dict[tuple[str, str], Any] = {
    ("optim", "freeze"): [],
    ("init_from", "modules"): None,
    ("data", "folder"): None,
    ("data", "test_size"): None,
    ("data", "subset_seed"): 0,
    ("data", "fit"): [],
    ("data", "max_bad"): 0.0,
}
"""Fields that were added to specs later, with the values equivalent to their absence."""


def to_dict(spec: RunSpec) -> dict[str, Any]:
    """The spec as nested dicts of JSON values (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(spec), sort_keys=True, allow_nan=False))


def from_dict(values: Mapping[str, Any]) -> RunSpec:
    """The spec of `to_dict`'s values.

    Raises:
      ConfigError: listing every field that is not known (and the nearest), missing or wrong.
    """
    return typed.build(RunSpec, values)


def digest(spec: RunSpec) -> str:
    """The sha256 (hex) of everything that determines the numbers of the run.

    Left out: fields that older specs lack, where they change nothing; `name`, `kind`; and
    the paths in `init_from.workdir` and `data.folder` (the place of a folder does not matter; the
    weights from there are identified by their digest in the run's origin, see
    `tlx.checkpoints.identity`).
    """
    fields = without_places(_without_later(to_dict(spec)))
    del fields["name"], fields["kind"]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def without_places(values: Mapping[str, Any]) -> dict[str, Any]:
    """The spec's dict without the paths of folders, which do not matter."""
    found = dict(values)
    for part, field in (("init_from", "workdir"), ("data", "folder")):
        if found.get(part):
            found[part] = {key: value for key, value in found[part].items() if key != field}
    return found


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The fields in which two dicts of values differ, as "optim.rate: 0.1 there, 0.2 here".

    A field that older specs lack is no difference where it changes nothing.
    """
    left, right = _flat(_without_later(theirs)), _flat(_without_later(ours))
    return [
        f"{field}: {left.get(field, 'absent')} there, {right.get(field, 'absent')} here"
        for field in sorted(left | right)
        if left.get(field, "absent") != right.get(field, "absent")
    ]


def _without_later(values: Mapping[str, Any], part: str = "") -> dict[str, Any]:
    """The values, nested ones too, without the fields of `_LATER` where they change nothing."""
    return {
        key: _without_later(value, key) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if (part, key) not in _LATER or value != _LATER[part, key]
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    out: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = json.dumps(value)
    return out
