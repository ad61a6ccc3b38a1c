"""The axes of a study: along each, P-T and RI-T are trained at other values of one thing."""

import dataclasses
import itertools
from typing import Any, NamedTuple

import numpy as np

from tlx import checkpoints
from tlx.data.block_permutations import block_permutation
from tlx.data.examples import open_split
from tlx.data.spec import DataSpec, parse_shuffle
from tlx.train.spec import RunSpec

BOTH = ("P-T", "RI-T")
ARMS = ("S-T", "C-T")
"""Further kinds of run, trained as P-T is, from another start: see `StudySpec.arms`."""


_FIELDS = {"shuffle": "shuffle", "train_size": "train_size", "target": "name"}
"""What of the data an axis changes."""

_SHUFFLES = ("pixel", "channel_block", "block")


class Cell(NamedTuple):
    """One value of an axis.

    Attributes:
      axis: one of `NAMES`; "" for the plain target.
      value: in words.
      word: what it adds to the name of a run.
    """

    axis: str
    value: str
    word: str


PLAIN = Cell("", "", "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axes:
    """The values along each axis, besides that of the plain runs.

    Attributes:
      shuffle: shuffled versions of the target, in the words of `DataSpec.shuffle`.
      train_size: other numbers of training images of the target.
      target: other targets, by the names of their sources; all else as the target's.
      init_step: earlier steps of P, which it keeps, from which P-T starts too.
    """

    shuffle: tuple[str, ...] = ()
    train_size: tuple[int, ...] = ()
    target: tuple[str, ...] = ()
    init_step: tuple[int, ...] = ()

    def cells(self, axis: str) -> list[Cell]:
        """The values of an axis in the order in which they are shown."""
        if axis == "shuffle":
            return [Cell(axis, word, word) for word in sorted(self.shuffle, key=_finest_first)]
        values = getattr(self, axis)
        in_order = values if axis == "target" else sorted(values)
        return [Cell(axis, str(value), f"{axis}:{value}") for value in in_order]

    def shuffle_problems(self, finetune: RunSpec, replicates: int) -> list[str]:
        """The problems with the shuffles of further replicates, each of which has its own."""
        return [
            f"shuffle of replicate {i + 1}: {problem}"
            for i in range(1, replicates)
            for cell in self.cells("shuffle")
            for problem in _unmoved(reshuffled(apply(cell, finetune), i).data)
        ]

    def problems(self, finetune: RunSpec, pretrain: RunSpec, init_step: int | str) -> list[str]:
        """Everything that is wrong with them for these runs of a study."""
        problems = []
        for axis in _FIELDS:
            for cell in self.cells(axis):
                data = apply(cell, finetune).data
                problems += [f"{axis}: {problem}" for problem in _data_problems(data)]
        problems += _step_problems(self.init_step, pretrain, init_step)
        for axis, field in _FIELDS.items():
            values, plain = getattr(self, axis), getattr(finetune.data, field)
            if len(set(values)) < len(values) or plain in values:
                problems.append(
                    f"{axis}: expected each once, and not {plain!r} (the plain target is always "
                    f"there), got {values}"
                )
        return problems


NAMES = tuple(field.name for field in dataclasses.fields(Axes))


def kinds(axis: str, arms: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds of run that an axis has: only P-T starts from P's weights at a step."""
    return ("P-T",) if axis == "init_step" else (*BOTH, *arms)


def apply(cell: Cell, run: RunSpec) -> RunSpec:
    """A plain run moved to a cell; its `init_from` is P's."""
    if cell.axis == "init_step":
        assert run.init_from is not None  # the study has set it
        start = dataclasses.replace(run.init_from, step=int(cell.value))
        return dataclasses.replace(run, init_from=start)
    if cell.axis == "":
        return run
    value: Any = int(cell.value) if cell.axis == "train_size" else cell.value
    data = dataclasses.replace(run.data, **{_FIELDS[cell.axis]: value})
    return dataclasses.replace(run, data=data)


def reshuffled(run: RunSpec, by: int) -> RunSpec:
    """A run with the shuffle of another seed, so much above its own."""
    data = dataclasses.replace(run.data, shuffle_seed=run.data.shuffle_seed + by)
    return dataclasses.replace(run, data=data)


def _data_problems(data: DataSpec) -> list[str]:
    problems = data.problems() or data.unavailable()
    if problems:
        return problems
    try:
        open_split(data, "train")
    except ValueError as error:
        return [str(error)]
    return _unmoved(data)


def _step_problems(steps: tuple[int, ...], pretrain: RunSpec, init_step: int | str) -> list[str]:
    keep, last = pretrain.checkpoint, pretrain.num_steps
    kept = checkpoints.scheduled(last, rule=keep.rule, steps=keep.steps, every=keep.every)
    if steps and init_step != "last":
        return [
            f"init_step: expected the study's init_step to be 'last', with which they are "
            f"compared, got {init_step!r}"
        ]
    wrong = [step for step in steps if step not in kept or step == last]
    twice = [a for a, b in itertools.pairwise(sorted(steps)) if a == b]
    if not (wrong or twice):
        return []
    return [
        f"init_step: expected steps before the last that pretrain.checkpoint keeps, each once: "
        f"some of {sorted(kept - {last})}, got {steps}"
    ]


def _unmoved(data: DataSpec) -> list[str]:
    """The problem with a shuffle whose permutation happens to be the identity."""
    kind, size = parse_shuffle(data.shuffle)
    if kind != "block":
        return []
    order = block_permutation(data.image_size, size, data.shuffle_seed)
    if not np.array_equal(order, np.arange(len(order))):
        return []
    return [
        f"{data.shuffle!r} with shuffle_seed {data.shuffle_seed} leaves all {len(order)} blocks "
        "where they are; choose another shuffle_seed or size"
    ]


def _finest_first(word: str) -> tuple[int, int]:
    """All pixels, blocks by channel, blocks; each by size. Unknown words are problems."""
    kind, _, size = word.partition(":")
    order = _SHUFFLES.index(kind) if kind in _SHUFFLES else len(_SHUFFLES)
    return order, int(size) if size.isdigit() else 0
