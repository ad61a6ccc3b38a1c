"""Dataclasses from nested mappings, checked against their annotations."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from tlx.core.checks import unknown

T = TypeVar("T")


class ConfigError(ValueError):
    """A config that cannot be used; the message lists every problem."""


def build(cls: type[T], config: Mapping[str, Any]) -> T:
    """A dataclass from a config, checked.

    Keys become fields, by name; nested configs become nested dataclasses, lists tuples.

    Args:
      cls: a frozen dataclass; its `problems()` names what is wrong with the values.
      config: nested mapping.

    Raises:
      ConfigError: listing every unknown key (with the nearest), missing key, wrong type and
        problem with a value, each with its place.
    """
    problems: list[str] = []
    built = _build(cls, config, "", problems)
    if not problems:
        problems += built.problems()
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"the config has {len(problems)} problem(s):\n{lines}")
    return built


def completed(cls: type[T], config: Mapping[str, Any]) -> T | None:
    """A dataclass from what an earlier version of it may have written, values unchecked.

    Fields that it lacked have their defaults. None where keys or types do not fit.
    """
    problems: list[str] = []
    built: T = _build(cls, config, "", problems)
    return None if problems else built


def _build(cls: Any, config: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(config, Mapping):
        place = where.rstrip(".") or "config"
        problems.append(f"{place}: expected a nested config, got {config!r}")
        return None
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in config:
        if key not in fields:
            problems.append(f"{where}{key}: {unknown('key', key, fields)}")
    values = {}
    for name, field in fields.items():
        if name in config:
            values[name] = _value(hints[name], config[name], where + name, problems)
        elif field.default is field.default_factory is dataclasses.MISSING:
            problems.append(f"{where}{name}: expected {_name(hints[name])}, got none")
    return None if problems else cls(**values)


def _value(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    if value is None and type(None) in options:
        return None
    for option in options:
        if dataclasses.is_dataclass(option):
            return _build(option, value, where + ".", problems)
    value = tuples(value)
    if not any(_fits(value, option) for option in options):
        problems.append(f"{where}: expected {_name(hint)}, got {value!r}")
    elif float in options and isinstance(value, int) and int not in options:
        return float(value)  # so that 1 and 1.0 are one config
    return value


def _fits(value: Any, hint: Any) -> bool:
    kind = typing.get_origin(hint) or hint
    if hint is Any:
        return True
    if kind is tuple:
        items = [arg for arg in typing.get_args(hint) if arg is not Ellipsis]
        if not isinstance(value, tuple):
            return False
        if Ellipsis in typing.get_args(hint):
            return all(_fits(item, items[0]) for item in value)
        return len(value) == len(items) and all(map(_fits, value, items))
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float)
    return isinstance(value, kind)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def tuples(value: Any) -> Any:
    """The value with every list, at any depth, made a tuple.

    >>> tuples({"stage_sizes": [1, 2]})
    {'stage_sizes': (1, 2)}
    """
    if isinstance(value, list | tuple):
        return tuple(tuples(item) for item in value)
    if isinstance(value, Mapping):
        return {key: tuples(item) for key, item in value.items()}
    return value
