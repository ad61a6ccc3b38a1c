"""Configs: a Python file with `get_config` becomes frozen dataclasses, checked once.

This is the only module that knows `ml_collections`. Every problem of a config is told at
once, before any work.
"""

import ast
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ml_collections

from tlx.train import typed
from tlx.train.spec import tuples
from tlx.train.typed import ConfigError

__all__ = ["ConfigError", "build", "load"]

T = TypeVar("T")


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
    """A dataclass from a config, checked; see `tlx.train.typed.build`.

    Raises:
      ConfigError: listing every problem, each with its place.
    """
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    return typed.build(cls, config)


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
        problems += _set(config, key.split("."), tuples(value))
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
