"""The axes of a study: along each, P-T and RI-T are trained at other values of one thing."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tlx import checkpoints
from tlx.data.examples import open_split
from tlx.data.permutations import block_permutation
from tlx.data.spec import DataSpec, parse_shuffle
from tlx.train.spec import RunSpec

if TYPE_CHECKING:
    from tlx.studies.spec import StudySpec

NAMES = ("shuffle", "train_size", "target", "init_step")

BOTH = ("P-T", "RI-T")
KINDS: Mapping[str, tuple[str, ...]] = {"init_step": ("P-T",)} | dict.fromkeys(
    ("", "shuffle", "train_size", "target"), BOTH
)
"""The kinds of run that an axis has: only P-T starts from P."""

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


def cells(spec: StudySpec, axis: str) -> list[Cell]:
    """The values of an axis besides the plain one, in the order in which they are shown."""
    if axis == "shuffle":
        return [Cell(axis, word, word) for word in sorted(spec.shuffles, key=_finest_first)]
    values: Mapping[str, tuple[object, ...]] = {
        "train_size": tuple(sorted(spec.train_sizes)),
        "target": spec.targets,
        "init_step": tuple(sorted(spec.init_steps)),
    }
    return [Cell(axis, str(value), f"{axis}:{value}") for value in values[axis]]


def plain_value(spec: StudySpec, axis: str) -> str:
    """Where the plain runs are on an axis."""
    data = spec.finetune.data
    if axis == "train_size":
        return str(len(open_split(data, "train")[1]))
    last = spec.pretrain.num_steps if spec.init_step == "last" else spec.init_step
    return {"shuffle": "none", "target": data.name, "init_step": str(last)}[axis]


def apply(cell: Cell, run: RunSpec) -> RunSpec:
    """A plain run moved to a cell; its `init_from` is P's."""
    if cell.axis == "init_step":
        assert run.init_from is not None  # the study has set it
        start = dataclasses.replace(run.init_from, step=int(cell.value))
        return dataclasses.replace(run, init_from=start)
    if cell.axis == "":
        return run
    field = {"shuffle": "shuffle", "train_size": "train_size", "target": "name"}[cell.axis]
    value: Any = int(cell.value) if cell.axis == "train_size" else cell.value
    return dataclasses.replace(run, data=dataclasses.replace(run.data, **{field: value}))


def problems(spec: StudySpec) -> list[str]:
    """Everything that is wrong with the axes of a study and its rates."""
    found = []
    fields = {"shuffle": "shuffles", "train_size": "train_sizes", "target": "targets"}
    for axis, field in fields.items():
        for cell in cells(spec, axis):
            data = apply(cell, spec.finetune).data
            found += [f"{field}: {problem}" for problem in _data_problems(data)]
    found += _step_problems(spec)
    for field, plain in (
        ("shuffles", "none"),
        ("targets", spec.finetune.data.name),
        ("train_sizes", spec.finetune.data.train_size),
        ("rates", None),
    ):
        values = getattr(spec, field)
        if len(set(values)) < len(values) or plain in values:
            found.append(
                f"{field}: expected each once, and not {plain!r} (the plain target is always "
                f"there), got {values}"
            )
    if any(rate <= 0 for rate in spec.rates):
        found.append(f"rates: expected numbers above 0, got {spec.rates}")
    own = [run.optim.rate for run in (spec.finetune, spec.scratch)]
    if spec.rates and len({rate in spec.rates for rate in own}) > 1:
        found.append(
            "rates: expected both of the rates of finetune and scratch among them or neither, so "
            f"that P-T and RI-T are chosen from as many, got {spec.rates} with {own}"
        )
    return found


def _data_problems(data: DataSpec) -> list[str]:
    found = data.problems() or data.unavailable()
    if found:
        return found
    try:
        open_split(data, "train")
    except ValueError as error:
        return [str(error)]
    return _unmoved(data)


def _step_problems(spec: StudySpec) -> list[str]:
    keep, last = spec.pretrain.checkpoint, spec.pretrain.num_steps
    kept = checkpoints.scheduled(last, rule=keep.rule, steps=keep.steps, every=keep.every)
    if spec.init_steps and spec.init_step != "last":
        return [
            f"init_steps: expected init_step 'last', with which they are compared, got "
            f"{spec.init_step!r}"
        ]
    wrong = [step for step in spec.init_steps if step not in kept or step == last]
    twice = [a for a, b in itertools.pairwise(sorted(spec.init_steps)) if a == b]
    if not (wrong or twice):
        return []
    return [
        f"init_steps: expected steps before the last that pretrain.checkpoint keeps, each once: "
        f"some of {sorted(kept - {last})}, got {spec.init_steps}"
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
    """All pixels, blocks by channel, blocks; each by size. Unknown words are told as problems."""
    kind, _, size = word.partition(":")
    order = _SHUFFLES.index(kind) if kind in _SHUFFLES else len(_SHUFFLES)
    return order, int(size) if size.isdigit() else 0
