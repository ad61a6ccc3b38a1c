"""Pickles read by an interpreter of our own, in which nothing can be executed.

A pickle is a program: it names functions, calls them and sets the state of what comes out. Here
a name is a text, a call of it gives a placeholder, and setting a state does nothing; the few
names that weights are made of are called as functions given by who reads. No object of Python's
or of ours is reached, so none can be altered. What a pickle can ask for is bounded
(`tlx.checkpoints.bounds`), nothing here recurses, and no value is compared, hashed or printed
beyond its first level, since a few hundred bytes can build lists that hold each other 2**100 times.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

from tlx.checkpoints import bounds


class Name(NamedTuple):
    """A function or class that a pickle names; nothing is looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:100]


class Inert:
    """What stands for an object that weights are not made of; it holds the name alone."""

    __slots__ = ("name",)

    def __init__(self, name: object) -> None:
        self.name = str(name)


Call = Callable[..., Any]

_MARK = object()
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
_VALUES = frozenset(
    (
        "INT",
        "LONG",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    )
)


def describe(value: Any) -> str:
    """A value in a few words, whatever it holds."""
    if isinstance(value, Inert | Name):
        return f"an object of {value.name}" if isinstance(value, Inert) else f"the name {value}"
    if isinstance(value, str | bytes):
        return repr(value[:40])
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < 1e30):
        return repr(value)
    return f"a {type(value).__name__}"


class _Limited:
    """A file of which no more than so many bytes are read."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._left = file, limit

    def read(self, count: int) -> bytes:
        bounds.require("a value of its pickle", count, self._left)
        return self._taken(self._file.read(count))

    def readline(self) -> bytes:
        return self._taken(self._file.readline(self._left + 1))

    def _taken(self, data: bytes) -> bytes:
        self._left -= len(data)
        bounds.require("its pickle", bounds.PICKLE_BYTES - self._left, bounds.PICKLE_BYTES)
        return data


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, known: Mapping[Name, Call], find: Callable[[Any], Any]) -> None:
        self.known, self.find = known, find
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.steps = 0

    def spend(self, steps: int) -> None:
        """Counts work, so that none is asked for again and again."""
        self.steps += steps
        bounds.require("its pickle", self.steps, bounds.PICKLE_STEPS, "instructions")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value belongs")
        return value

    def popped(self) -> list[Any]:
        """What lies above the last mark, which goes too."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("a mark is missing")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def top(self) -> Any:
        return self.stack[-1]

    def run(self, file: Any) -> Any:
        for opcode, arg, _ in pickletools.genops(file):
            self.spend(1)
            name = opcode.name
            if name == "STOP":
                return self.pop()
            if name in _VALUES:
                if type(arg) is int:
                    bounds.require("a number", arg.bit_length() // 8, bounds.INTEGER_BYTES)
                self.stack.append(bytes(arg) if type(arg) is bytearray else arg)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            else:
                step = _STEPS.get(name)
                if step is None:
                    raise ValueError(f"an instruction {name}, which weights do not need")
                step(self, arg)
        raise ValueError("its pickle is cut off")

    def call(self, function: Any, args: Any) -> Any:
        """A known name's function of its arguments; of any other name a placeholder."""
        if not isinstance(function, Name):
            return Inert(f"what is no name ({describe(function)})")
        if not isinstance(args, tuple) or function not in self.known:
            return Inert(function)
        self.spend(len(args) + sum(len(x) for x in args if isinstance(x, list | tuple | dict)))
        return self.known[function](*args)

    def put(self, pairs: list[Any]) -> None:
        """Keys and values in turn, into the mapping on top."""
        target = self.top()
        if len(pairs) % 2:
            raise ValueError("a key without a value")
        if isinstance(target, dict):
            for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                target[key if _is_key(key) else Inert(describe(key))] = value
        else:
            self._ignored()

    def add(self, items: list[Any]) -> None:
        """Items, onto the list on top."""
        if isinstance(self.top(), list):
            self.top().extend(items)
        else:
            self._ignored()

    def _ignored(self) -> None:
        """What is added to an object that is none of ours; to others nothing can be."""
        if not isinstance(self.top(), Inert):
            raise ValueError(f"a value is added to {describe(self.top())}")


def _is_key(value: Any) -> bool:
    """Texts and small numbers, of which none can be chosen to collide in a mapping."""
    if isinstance(value, int):
        return abs(value) < 2**31
    return value is None or isinstance(value, str | bytes)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a name, got {describe(value)}")
    return value


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(Name(_text(module), _text(name)))


def _global(machine: _Machine, arg: str) -> None:
    module, _, name = arg.partition(" ")
    machine.stack.append(Name(module, name))


def _reduce(machine: _Machine, _: Any) -> None:
    args, function = machine.pop(), machine.pop()
    machine.stack.append(machine.call(function, args))


def _new_with_keywords(machine: _Machine, _: Any) -> None:
    machine.pop()
    _reduce(machine, _)


def _instance(machine: _Machine, arg: str) -> None:
    args = tuple(machine.popped())
    module, _, name = arg.partition(" ")
    machine.stack.append(machine.call(Name(module, name), args))


def _object(machine: _Machine, _: Any) -> None:
    function, *args = machine.popped()
    machine.stack.append(machine.call(function, tuple(args)))


def _build(machine: _Machine, _: Any) -> None:
    machine.pop()  # the state; nothing that weights are made of has one


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, _: Any) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(items)))

    return step


def _get(machine: _Machine, arg: int) -> None:
    if arg not in machine.memo:
        raise ValueError("its pickle refers to what it does not hold")
    machine.stack.append(machine.memo[arg])


def _dict(machine: _Machine, _: Any) -> None:
    pairs = machine.popped()
    machine.stack.append({})
    machine.put(pairs)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.put([key, value])


def _frozen_set(machine: _Machine, _: Any) -> None:
    machine.popped()
    machine.stack.append(Inert("builtins.frozenset"))


def _persistent(machine: _Machine, arg: Any) -> None:
    machine.stack.append(machine.find(machine.pop() if arg is None else arg))


def _nothing(machine: _Machine, _: Any) -> None:
    """Of no effect on what is read."""


def _remember(machine: _Machine, arg: int | None) -> None:
    machine.memo[len(machine.memo) if arg is None else arg] = machine.top()


_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": _nothing,
    "FRAME": _nothing,
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.popped(),
    "DUP": lambda machine, _: machine.stack.append(machine.top()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.popped())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "LIST": lambda machine, _: machine.stack.append(machine.popped()),
    "DICT": _dict,
    "FROZENSET": _frozen_set,
    "APPEND": lambda machine, _: machine.add([machine.pop()]),
    "APPENDS": lambda machine, _: machine.add(machine.popped()),
    "ADDITEMS": lambda machine, _: machine.add(machine.popped()),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.put(machine.popped()),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_with_keywords,
    "INST": _instance,
    "OBJ": _object,
    "BUILD": _build,
    "PERSID": _persistent,
    "BINPERSID": _persistent,
}


def load(file: BinaryIO, known: Mapping[Name, Call], find: Callable[[Any], Any]) -> Any:
    """What a pickle holds, up to where it ends.

    Args:
      file: at the beginning of a pickle; left behind its end.
      known: for names that may be called the functions that are, of any arguments.
      find: what stands for a reference to outside of the pickle.

    Returns:
      Dicts, lists, tuples, numbers, texts and bytes as they are, what `known` and `find` return,
      `Name` and `Inert` for all else. Lists and tuples may hold themselves, or each other many
      times: do not walk through them.

    Raises:
      ValueError: the pickle is damaged or beyond `tlx.checkpoints.bounds`.
    """
    try:
        return _Machine(known, find).run(_Limited(file, bounds.PICKLE_BYTES))
    except ValueError:
        raise
    except Exception as error:  # what a damaged pickle raises can be anything
        raise ValueError(f"its pickle cannot be read ({type(error).__name__}: {error})") from error
