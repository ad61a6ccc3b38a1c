"""Configs in files: `get_config` of a Python file, or what a workdir saved, with overrides.

This is the only module that knows `ml_collections`.
"""

import ast
import importlib.util
import json
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ml_collections

from tlx.config import typed
from tlx.config.typed import ConfigError, tuples
from tlx.core import checks

__all__ = ["ConfigError", "arguments", "build", "load"]

T = TypeVar("T")


def load(path: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """The config of a file, with overrides.

    Args:
      path: "configs/mini.py", or "configs/mini.py:arg" to call `get_config("arg")`; or what a
        workdir holds as its config.json or study.json.
      overrides: "a.b=value" each; the value is a Python literal, or else a string.

    Returns:
      A locked `ConfigDict`.

    Raises:
      ConfigError: if the file does not exist, cannot be run (with its line) or has no
        `get_config`; or listing every override that is not of this form. Unknown keys and wrong
        types are found by `build`.
    """
    name, arg = _parts(path)
    file = Path(name)
    if not file.is_file():
        near = sorted(str(p) for p in Path("configs").glob("*.py"))
        known = f"; there are {', '.join(near)}" if near else ""
        raise ConfigError(f"no config file {name!r}{known}")
    config = _saved(file, arg) if file.suffix == ".json" else _made(file, arg)
    with config.unlocked():
        _override(config, overrides)
    return config.lock()


def absolute(path: str) -> str:
    """What names the same config from any folder."""
    name, arg = _parts(path)
    return f"{Path(name).absolute()}:{arg}" if arg else str(Path(name).absolute())


def _parts(path: str) -> tuple[str, str]:
    """The file and the argument of FILE[:ARG]; a folder may have a colon in its name too."""
    ends = [place.start() for place in re.finditer(":", path)][::-1]
    end = next((end for end in (len(path), *ends) if Path(path[:end]).is_file()), path.find(":"))
    return (path, "") if end < 0 else (path[:end], path[end + 1 :])


def arguments(arg: str, *groups: Iterable[str]) -> tuple[str, ...]:
    """The words of a config's argument, "word" or "word=VALUE" separated by commas.

    >>> arguments("real,from=runs/P", ("real", "clipart"), ("from=WORKDIR",))
    ('real', 'from=runs/P')
    >>> arguments("", ("depth", "finetune=WORKDIR"))
    ('',)

    Args:
      arg: what stands after the colon of `--config=FILE:ARG`.
      groups: forms that exclude each other; "name=WHAT" for a word that has a value.

    Returns:
      The word of each group, in their order; "" where it is not given.

    Raises:
      ConfigError: listing what is wrong, with all forms.
    """
    groups = tuple(tuple(group) for group in groups)
    of_name = {form.partition("=")[0]: (i, form) for i, g in enumerate(groups) for form in g}
    found, problems = [""] * len(groups), []
    for word in arg.split(",") if arg else ():
        name, equals, value = word.partition("=")
        if name not in of_name:
            problems.append(checks.unknown("argument", name, of_name))
            continue
        number, form = of_name[name]
        if "=" in form and not value:
            problems.append(f"{name} needs a value: {form}")
        elif equals and "=" not in form:
            problems.append(f"{name} takes no value, got {word!r}")
        elif found[number]:
            problems.append(f"{found[number]} and {word} exclude each other")
        else:
            found[number] = word
    if problems:
        forms = " and ".join(f"one of {', '.join(group)}" for group in groups)
        raise ConfigError(f"{arg!r}: {'; '.join(problems)}. Expected {forms}, or none")
    return tuple(found)


def _saved(file: Path, arg: str) -> ml_collections.ConfigDict:
    """What a workdir holds."""
    if arg:
        raise ConfigError(f"{file}: expected no argument for a saved config, got {arg!r}")
    try:
        values = json.loads(file.read_text())
    except ValueError as error:
        raise ConfigError(f"{file}: expected JSON, but: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected the fields of a config, got {type(values).__name__}")
    return ml_collections.ConfigDict(tuples(values))


def _made(file: Path, arg: str) -> ml_collections.ConfigDict:
    """What a Python file gives."""
    module_spec = importlib.util.spec_from_file_location(file.stem, file)
    if module_spec is None or module_spec.loader is None:
        raise ConfigError(
            f"{file}: expected a Python file (.py) with get_config, or a workdir's saved "
            "config.json or study.json"
        )
    module = importlib.util.module_from_spec(module_spec)
    _run(file, module_spec.loader.exec_module, module)
    if not callable(getattr(module, "get_config", None)):
        raise ConfigError(
            f"{file}: expected get_config(arg='') -> ml_collections.ConfigDict, got none"
        )
    config = _run(file, module.get_config, *([arg] if arg else []))
    if not isinstance(config, ml_collections.ConfigDict):
        raise ConfigError(
            f"{file}: expected get_config to return an ml_collections.ConfigDict, got "
            f"{type(config).__name__}"
        )
    return config


def _run(file: Path, fn: Callable[..., Any], *args: Any) -> Any:
    """The result of a function of a config; an error in it is reported with the file's line."""
    try:
        return fn(*args)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    except (Exception, SystemExit) as error:  # whatever the file does
        frames = traceback.extract_tb(error.__traceback__)
        lines = [str(f.lineno) for f in frames if Path(f.filename) == file.absolute()]
        lines += [str(f.lineno) for f in frames if Path(f.filename) == file]
        if isinstance(error, SyntaxError):
            lines = [str(error.lineno)]
        where = f"{file}, line {lines[-1]}" if lines else f"{file}"
        raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error


def build(cls: type[T], config: Mapping[str, Any]) -> T:
    """A dataclass from a config, checked; see `tlx.config.typed.build`.

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
