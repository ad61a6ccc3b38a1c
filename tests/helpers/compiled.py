"""What a compiled program does: its collectives, its flops, and its memory on one device."""

import re
from typing import NamedTuple

import numpy as np

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Collective(NamedTuple):
    """An exchange between devices: its kind, and the elements of each array in it."""

    kind: str
    sizes: tuple[int, ...]


def collectives(compiled):
    """All of a program, in the order of its text."""
    found = []
    pattern = re.compile(rf"^\s*(?:ROOT )?%\S+ = (.*?) ({'|'.join(KINDS)})(?:-start)?\(")
    for line in compiled.as_text().splitlines():
        match = pattern.match(line)
        if match:
            shapes = re.findall(r"\w+\[([\d,]*)\]", match[1])
            sizes = (int(np.prod([int(n) for n in s.split(",") if n])) for s in shapes)
            found.append(Collective(match[2], tuple(sizes)))
    return found


def flops(compiled):
    """Those of one device."""
    return compiled.cost_analysis()["flops"]


def peak_bytes(compiled):
    """The memory of arguments, temporaries and results on one device."""
    memory = compiled.memory_analysis()
    parts = (memory.argument_size_in_bytes, memory.temp_size_in_bytes, memory.output_size_in_bytes)
    return sum(parts) - memory.alias_size_in_bytes
