"""Configs: a Python file with `get_config` becomes frozen dataclasses, checked once.

This is the only module that knows `ml_collections`. Every problem of a config is told at
once, before any work.
"""

import ast
import dataclasses
import importlib.util
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ml_collections

from tlx.core.checks import unknown

T = TypeVar("T")


class ConfigError(ValueError):
    """A config that cannot be used; the message lists every problem."""


def load(path: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """The config of a file, with overrides.

    Args:
      path: "configs/mini.py", or "configs/mini.py:arg" to call `get_config("arg")`.
      overrides: "a.b=value" each; the value is a Python literal, or else a string.

    Returns:
      A locked `ConfigDict`.

    Raises:
      ConfigError: if the file is not there or has no `get_config`; or listing every
        override that is not of this form. Unknown keys and wrong types are for `build` to find.
    """
    name, _, arg = path.partition(":")
    file = Path(name)
    if not file.is_file():
        near = sorted(str(p) for p in Path("configs").glob("*.py"))
        known = f"; there are {', '.join(near)}" if near else ""
        raise ConfigError(f"no config file {name!r}{known}")
    module_spec = importlib.util.spec_from_file_location(file.stem, file)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{name} must define get_config(arg='') -> ml_collections.ConfigDict")
    config = module.get_config(arg) if arg else module.get_config()
    with config.unlocked():
        _override(config, overrides)
    return config.lock()


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
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    problems: list[str] = []
    built = _build(cls, config, "", problems)
    if not problems:
        problems += built.problems()
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"the config has {len(problems)} problem(s):\n{lines}")
    return built


def _build(cls: Any, config: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(config, Mapping):
        place = where.rstrip(".") or "config"
        problems.append(f"{place}: expected a config of its own, found {config!r}")
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
            problems.append(f"{where}{name}: missing, expected {_name(hints[name])}")
    return None if problems else cls(**values)


def _value(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    if value is None and type(None) in options:
        return None
    for option in options:
        if dataclasses.is_dataclass(option):
            return _build(option, value, where + ".", problems)
    value = _tuples(value)
    if not any(_fits(value, option) for option in options):
        problems.append(f"{where}: expected {_name(hint)}, found {value!r}")
    elif float in options and isinstance(value, int) and int not in options:
        return float(value)  # so that 1 and 1.0 are one config
    return value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


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


def _override(config: ml_collections.ConfigDict, overrides: Sequence[str]) -> None:
    """Sets values; `build` finds keys that no field has and values of a wrong type."""
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            problems.append(f"{override}: expected key=value")
            continue
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        problems += _set(config, key.split("."), _tuples(value))
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"{len(problems)} override(s) cannot be applied:\n{lines}")


def _set(config: ml_collections.ConfigDict, names: list[str], value: Any) -> list[str]:
    for i, name in enumerate(names[:-1]):
        if config.get(name) is None:  # a part that the file leaves out
            config[name] = ml_collections.ConfigDict()
        config = config[name]
        if not isinstance(config, ml_collections.ConfigDict):
            place = ".".join(names[: i + 1])
            return [f"{'.'.join(names)}: {place} is a value, it has no keys"]
    old = config.get(names[-1])
    if isinstance(old, ml_collections.ConfigDict):
        keys = ", ".join(sorted(old.keys()))
        return [f"{'.'.join(names)}: holds the keys {keys}; set those one by one"]
    with config.ignore_type():
        config[names[-1]] = value
    return []
