"""Errors that name what differs, where, what was expected and what to do."""

import difflib
from collections.abc import Iterable

from tlx.core import public

__dir__ = public.names(__name__)


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for a name that is not in a registry: the nearest, then all known ones.

    >>> from tlx.core import checks
    >>> checks.unknown("model", "resnet81", ["resnet18", "resnet50"])
    "unknown model 'resnet81'; did you mean 'resnet18'? Known: resnet18, resnet50"
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}"
