"""Pickles read without Python's unpickler: nothing in them can be looked up, called or changed.

A pickle is a program that may name any function, call it and set the state of its result. Here
names stay strings. A call of a name that the reader allows goes to the reader's function; a call
of any other name leaves an `Inert` object, and setting a state does nothing.
The work is bounded (`tlx.checkpoints.bounds`), nothing recurses, and only texts and numbers are
ever compared or hashed: a few hundred bytes can make lists with 2**100 ends.
"""

import pickletools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from tlx.checkpoints import bounds


class Name(NamedTuple):
    """A name in a pickle, of a function or class; what has it in Python is not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module[:60]}.{self.name[:60]}"


class Inert:
    """A placeholder for an object that is not part of weights."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


_MARK = Inert("a mark")
_PLAIN = (str, int, float, bytes, type(None))
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Inert("builtins.set"),
    "MARK": lambda: _MARK,
}
_IGNORED = frozenset(("PROTO", "FRAME"))
_ITEMS_IN_TUPLE = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Bounded:
    """The bytes of one pickle, no more than the bound."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._used = file, 0

    def _count(self, size: int) -> None:
        self._used += size
        bounds.require("its pickle", self._used, bounds.PICKLE_BYTES)

    def read(self, size: int) -> bytes:
        self._count(size)
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(bounds.PICKLE_BYTES)
        self._count(len(line))
        return line


class _Machine:
    """The stack and the memo of a pickle that is being read."""

    def __init__(
        self, allowed: Mapping[Name, Callable[..., Any]], find: Callable[[Any], Any]
    ) -> None:
        self.allowed, self.find = allowed, find
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("its pickle has no value where one belongs")
        return value

    def pop_to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("its pickle has no mark where one belongs")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def call(self, function: Any, arguments: Any) -> None:
        is_allowed = isinstance(function, Name) and function in self.allowed
        if is_allowed and isinstance(arguments, tuple):
            self.stack.append(self.allowed[function](*arguments))
        else:
            self.stack.append(
                Inert(str(function) if isinstance(function, Name) else type(function).__name__)
            )

    def put(self, pairs: Sequence[Any]) -> None:
        """Keys and values in turn, into the mapping on top; objects that are inert take none."""
        target = self.stack[-1]
        if not isinstance(target, dict):
            return
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            target[key if isinstance(key, _PLAIN) else Inert("a key")] = value

    def add(self, items: Sequence[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def step(self, code: str, value: Any) -> None:
        """One instruction; those of the same purpose differ by how their value is written."""
        if code in _CONSTANTS:
            self.stack.append(_CONSTANTS[code]())
        elif code in _ITEMS_IN_TUPLE:
            items = [self.pop() for _ in range(_ITEMS_IN_TUPLE[code])]
            self.stack.append(tuple(reversed(items)))
        elif code in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if value is None else value] = self.stack[-1]
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[value])
        elif code in _ACTIONS:
            _ACTIONS[code](self, value)
        elif isinstance(value, int | float | str | bytes | bytearray) and code not in _REFUSED:
            if type(value) is int:
                length = (value.bit_length() + 7) // 8
                bounds.require("a number in its pickle", length, bounds.INTEGER_BYTES)
            self.stack.append(value)
        elif code not in _IGNORED:
            raise ValueError(f"its pickle has an instruction {code}, which weights do not need")


_REFUSED = frozenset(("EXT1", "EXT2", "EXT4", "PROTO", "FRAME"))


def _name(module: Any, name: Any) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("its pickle has a name that is not a text")
    return Name(module, name)


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(_name(module, name))


def _global(machine: _Machine, value: str) -> None:
    machine.stack.append(Name(*value.split(" ", 1)))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.call(function, arguments)


def _reduce_with_keywords(machine: _Machine, _: Any) -> None:
    machine.pop()
    _reduce(machine, None)


def _object(machine: _Machine, _: Any) -> None:
    function, *arguments = machine.pop_to_mark()
    machine.call(function, tuple(arguments))


def _instance(machine: _Machine, value: str) -> None:
    machine.call(Name(*value.split(" ", 1)), tuple(machine.pop_to_mark()))


def _dict(machine: _Machine, _: Any) -> None:
    pairs = machine.pop_to_mark()
    machine.stack.append({})
    machine.put(pairs)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.put((key, value))


def _frozen_set(machine: _Machine, _: Any) -> None:
    machine.pop_to_mark()
    machine.stack.append(Inert("builtins.frozenset"))


def _reference(machine: _Machine, value: Any) -> None:
    machine.stack.append(machine.find(machine.pop() if value is None else value))


_ACTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.pop_to_mark(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "FROZENSET": _frozen_set,
    "DICT": _dict,
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.put(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.add([machine.pop()]),
    "APPENDS": lambda machine, _: machine.add(machine.pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.add(machine.pop_to_mark()),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _reduce_with_keywords,
    "OBJ": _object,
    "INST": _instance,
    # A state belongs to an object of a class, and there are none here.
    "BUILD": lambda machine, _: machine.pop(),
    "PERSID": _reference,
    "BINPERSID": _reference,
}


def load(
    file: BinaryIO,
    allowed: Mapping[Name, Callable[..., Any]],
    find: Callable[[Any], Any],
) -> Any:
    """The content of a pickle.

    Args:
      file: at the pickle's beginning; afterwards behind its end.
      allowed: the function that a call of a name goes to.
      find: what a reference to outside of the pickle stands for.

    Returns:
      Dicts, lists, tuples, texts, bytes and numbers as they are; what `allowed` and `find`
      return; else `Name` or `Inert`. Dicts, lists and tuples may hold each other, and themselves,
      many times over: who walks through them remembers where it was.

    Raises:
      ValueError: the pickle is damaged, or beyond the bounds.
    """
    machine = _Machine(allowed, find)
    try:
        for count, (opcode, value, _) in enumerate(pickletools.genops(_Bounded(file))):  # type: ignore[arg-type]
            bounds.require("its pickle", count, bounds.OBJECTS, "instructions")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, value)
    except ValueError as error:
        raise ValueError(
            f"{error}" if "pickle" in str(error) else f"its pickle: {error}"
        ) from error
    except Exception as error:  # what a damaged pickle raises can be anything
        raise ValueError(f"its pickle cannot be read ({type(error).__name__}: {error})") from error
    raise ValueError("its pickle is cut off")
