"""Specs as JSON values."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

_LATER = "later"


def to_dict(spec: Any) -> dict[str, Any]:
    """A dataclass as nested dicts of JSON values (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(spec), sort_keys=True, allow_nan=False))


def later(default: Any) -> Any:
    """A field of a dataclass that its earlier versions lack; what they did is the default.

    So that what they wrote stays the same: `lasting` leaves it out at its default. The default
    never changes again.
    """
    return dataclasses.field(default=default, metadata={_LATER: True})


def lasting(spec: Any) -> dict[str, Any]:
    """As `to_dict`, the same in all versions of the dataclass: for digests."""
    found = to_dict(spec)
    _drop_later(spec, found)
    return found


def _drop_later(spec: Any, values: dict[str, Any]) -> None:
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if dataclasses.is_dataclass(value):
            _drop_later(value, values[field.name])
        elif field.metadata.get(_LATER) and value == field.default:
            del values[field.name]


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The fields in which two dicts of values differ, as "optim.rate: 0.1 there, 0.2 here"."""
    left, right = _flat(theirs), _flat(ours)
    return [
        f"{field}: {left.get(field, 'absent')} there, {right.get(field, 'absent')} here"
        for field in sorted(left | right)
        if left.get(field, "absent") != right.get(field, "absent")
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    out: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = json.dumps(value)
    return out
