"""The names that a kind of record has, and what is wrong with other ones."""

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """What a record of one kind holds, and by what it is found.

    Attributes:
      results: its NamedTuple.
      inputs: names that its inputs must have.
      more: names that they may have.
      options: names that its options may have.
    """

    results: Any
    inputs: frozenset[str]
    more: frozenset[str] = frozenset()
    options: frozenset[str] = frozenset()


def kind(results: Any, inputs: str, more: str = "", options: str = "") -> Kind:
    """A kind from names with spaces between."""
    return Kind(results, *(frozenset(words.split()) for words in (inputs, more, options)))


def differences(
    what: str, names: Iterable[str], needed: Iterable[str], allowed: Iterable[str]
) -> list[str]:
    """What is wrong with the names in something, each in a few words."""
    names, needed = set(names), set(needed)
    known = needed | set(allowed)
    missing = sorted(needed - names)
    return [f"{what} lack {', '.join(missing)}"] * bool(missing) + [
        f"{what} have an unknown name {name!r}{nearest(name, known)}"
        for name in sorted(names - known)
    ]


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is nearest to another, in brackets; "" where none is near."""
    near = difflib.get_close_matches(name, sorted(known), 1)
    return f" (nearest: {near[0]!r})" if near else ""
