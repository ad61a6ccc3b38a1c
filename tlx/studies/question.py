"""What a question of a study is, and how its record comes to be.

A record's key holds what decides the answer: the weights, the data, the options of the question
and its version number. A question asked again is found by it and not computed.
"""

import abc
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import flax
import jax
import numpy as np

import tlx
from tlx import records
from tlx.config import serial
from tlx.studies.keys import Key
from tlx.studies.runs import Plan

T = TypeVar("T")

CONFIDENCE = 0.95
"""Of all intervals."""

_SHOWN = 4  # differences in a message


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question(abc.ABC):
    """A question that a study can ask: its fields are its options.

    Its name is that of its record's kind, of its file and of its field in
    `tlx.studies.questions.Questions`.

    Attributes:
      version: of what it answers. Raise it when the analysis that answers it, or how that is
        asked, gives another number for the same runs and data: it stands in the key of every
        record, so that those of before are not found again, and the question is answered anew.
      weight: what answering it once counts for in the time left, in training steps.
      replicates: the least number of runs of each recipe that it needs.
      is_always_asked: whether every study asks it, whatever `StudySpec.questions` names.
    """

    version: ClassVar[int]
    weight: ClassVar[float] = 60.0
    replicates: ClassVar[int] = 2
    is_always_asked: ClassVar[bool] = False

    def problems(self) -> list[str]:
        """Everything that is wrong with its options, each with its place; empty if nothing is."""
        return []

    @abc.abstractmethod
    def subjects(self, plan: Plan) -> Sequence[Any]:
        """What of a study it is asked of, run by run or pair by pair; each gives one record."""

    @abc.abstractmethod
    def key(self, subject: Any) -> Key:
        """What decides the answer about a subject, whose runs are done."""

    @abc.abstractmethod
    def answer(self, subject: Any) -> Any:
        """The answer about a subject: a NamedTuple of `tlx.records.results`."""


def ask(root: Path, name: str, question: Question, subject: Any) -> tuple[records.Record, bool]:
    """The record that answers a question about a subject, and whether it had to be computed.

    A record of the same question about the same runs that was answered for other weights, other
    data or by another version of the question is set aside, and what differs is logged.
    """
    key = _key(question, subject)
    record = records.find(root, name, key)
    if record is not None:
        return record, False
    outdated = records.outdated(root, name, key)
    for there in outdated.values():
        _log_outdated(name, there, records.plain(key))
    started = time.perf_counter()
    results = question.answer(subject)
    meta = {"seconds": round(time.perf_counter() - started, 3), "versions": packages()}
    record = records.make_record(name, results=results, meta=meta, **key)
    for path in outdated:
        records.set_aside(path)
    records.save(root, record)
    return record, True


def is_answered(root: Path, name: str, question: Question, subject: Any) -> bool:
    """Whether there is a record that answers a question about a subject, whose runs are done."""
    return records.find(root, name, _key(question, subject)) is not None


def _key(question: Question, subject: Any) -> dict[str, Any]:
    """What decides a record, by part."""
    inputs, data, options = question.key(subject)
    return {
        "options": {**dataclasses.asdict(question), **options},
        "inputs": inputs,
        "data": data,
        "version": question.version,
    }


def _log_outdated(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    old, new = (
        {part: key[part] for part in ("version", "options", "data") if part in key}
        for key in (there, here)
    )
    lines = serial.differences(old, new)
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    about = ", ".join(f"{part} {value}" for part, value in here["inputs"].items())
    logging.getLogger("tlx").warning(
        "%s (%s) is answered anew, since its record differs: %s%s",
        name,
        about,
        "; ".join(lines[:_SHOWN]),
        more,
    )


def packages() -> dict[str, str]:
    """The versions of what computes the numbers, and the kind of device."""
    return {
        "tlx": tlx.__version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "numpy": np.__version__,
        "device": jax.devices()[0].device_kind,
    }


def arrays(form: type[T], **fields: Any) -> T:
    """Results in one of the forms of `tlx.records.results`, every field an array."""
    return form(**{name: np.asarray(value) for name, value in fields.items()})


def increasing(field: str, values: Sequence[float]) -> list[str]:
    """A problem unless the values increase from 0 or more, with one above 0."""
    if values and values[0] >= 0 and values[-1] > 0 and values == tuple(sorted(set(values))):
        return []
    return [
        f"{field}: expected numbers that increase from 0 or more, with one above 0, got {values}"
    ]
