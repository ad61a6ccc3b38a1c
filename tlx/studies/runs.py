"""The runs of a study, and which of them are compared; nothing is done here."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlx.train.spec import RunSpec

PART = "P-T part"
"""The kind of a run that starts from some modules of P only."""


class Run(NamedTuple):
    """A run of a study.

    Attributes:
      name: what people call it: "P", "P-T 1", "RI-T 1 block:8".
      kind: "P", "P-T" or "RI-T"; "P-T part" where only some modules start from P.
      replicate: 1, 2 …
      workdir: its folder.
      spec: what it trains.
      axis: in what it differs from the plain P-T or RI-T: a name of `axes.NAMES`, or "part"
        for a word of `StudySpec.partial`; "" for those themselves.
      value: where on that axis it is: "block:8", "100" …
      is_further_rate: whether it has one of `StudySpec.rates` and not its config's own.
    """

    name: str
    kind: str
    replicate: int
    workdir: Path
    spec: RunSpec
    axis: str = ""
    value: str = ""
    is_further_rate: bool = False

    @property
    def cell(self) -> str:
        """Where it is on an axis other than that of shuffles: "train_size:100" …; else ""."""
        return "" if self.axis in ("", "part", "shuffle") else f"{self.axis}:{self.value}"

    @property
    def shuffle(self) -> str:
        """The shuffle of its images; "none" where they are plain."""
        return self.spec.data.shuffle


class Pair(NamedTuple):
    """Two runs that are compared."""

    a: Run
    b: Run


class SweptRuns(NamedTuple):
    """The runs along an axis.

    Attributes:
      axis: a name of `axes.NAMES`.
      kinds: the kinds of run that it has.
      cells: the runs at each value, in the order in which they are shown; the plain ones too.
      plain: the value of the plain runs.
    """

    axis: str
    kinds: tuple[str, ...]
    cells: Mapping[str, Sequence[Run]]
    plain: str

    @property
    def runs(self) -> list[Run]:
        """All of them, by value."""
        return [run for runs in self.cells.values() for run in runs]


class Plan(NamedTuple):
    """What a study does, and which of its runs are compared.

    Attributes:
      name: of the study.
      config: all of it, by field.
      runs: in the order in which they can be done, P first.
      swept: the runs along each axis that has values besides the plain one.
    """

    name: str
    config: Mapping[str, Any]
    runs: tuple[Run, ...]
    swept: Mapping[str, SweptRuns]

    @property
    def source(self) -> Run:
        """P."""
        return self.runs[0]

    @property
    def is_multilabel(self) -> bool:
        """Whether an image of the target can have several labels."""
        return any(run.spec.loss == "multilabel" for run in self.plain())

    def plain(self) -> list[Run]:
        """The P-T and RI-T on the plain target, at all rates."""
        return [run for run in self.runs if run.axis == "" and run.kind != "P"]

    def of_kind(self, kind: str, shuffle: str = "none") -> list[Run]:
        """The runs of a kind on the plain target or a shuffled one, at the rate of their config."""
        return [
            run
            for run in self.runs
            if (run.kind, run.shuffle, run.is_further_rate) == (kind, shuffle, False)
            and run.axis in ("", "shuffle")
        ]

    def firsts(self) -> list[Run]:
        """The first P-T and the first RI-T."""
        return [self.of_kind(kind)[0] for kind in ("P-T", "RI-T")]

    def target_pairs(self) -> list[Pair]:
        """The pairs of the paper's figures on the plain target: two P-T, two RI-T, one of each."""
        p_t, ri_t = self.of_kind("P-T"), self.of_kind("RI-T")
        return [Pair(p_t[0], p_t[1]), Pair(p_t[0], ri_t[0]), Pair(ri_t[0], ri_t[1])]

    def all_target_pairs(self) -> list[Pair]:
        """Every pair of P-T and RI-T runs on the plain target, P-T first."""
        every = [*self.of_kind("P-T"), *self.of_kind("RI-T")]
        return [Pair(a, b) for a, b in itertools.combinations(every, 2)]

    def recipe_pairs(self) -> list[Pair]:
        """Two runs of one recipe: the first two P-T, and the first two RI-T."""
        p_t, _, ri_t = self.target_pairs()
        return [p_t, ri_t]

    def source_pairs(self) -> list[Pair]:
        """The pairs with P on the plain target: P-T and P, RI-T and P."""
        return [Pair(run, self.source) for run in self.firsts()]

    def shuffled_pairs(self) -> list[Pair]:
        """The pairs on each shuffled target that its runs allow, and its P-T with P."""
        pairs = []
        for shuffle in dict.fromkeys(run.shuffle for run in self.runs if run.shuffle != "none"):
            p_t, ri_t = self.of_kind("P-T", shuffle), self.of_kind("RI-T", shuffle)
            pairs += [Pair(*same[:2]) for same in (p_t, ri_t) if len(same) > 1]
            pairs += [Pair(p_t[0], ri_t[0]), Pair(p_t[0], self.source)]
        return pairs

    def plane_corners(self) -> tuple[Run, Run, Run]:
        """Two P-T and one RI-T."""
        first, second = self.of_kind("P-T")[:2]
        return first, second, self.of_kind("RI-T")[0]
