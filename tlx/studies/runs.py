"""The runs of a study, and which of them are compared; nothing is done here."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlx.train.spec import RunSpec

PART = "P-T part"
"""The kind of a run that starts from some modules of P only."""

FORK = "fork"
"""The axis of copies of a run, whose value is the step at which they part from it."""


class Run(NamedTuple):
    """A run of a study.

    Attributes:
      name: what people call it: "P", "P-T 1", "RI-T 1 block:8".
      kind: "P", "P-T", "RI-T" or a further arm; "P-T part" where only some modules start from P.
      replicate: 1, 2 …
      workdir: its folder.
      spec: what it trains.
      axis: in what it differs from the plain P-T or RI-T: a name of `axes.NAMES`, `FORK`, or
        "part" for a word of `StudySpec.partial`; "" for those themselves.
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
      most_compared: runs of each kind of which all pairs are compared, at most.
    """

    name: str
    config: Mapping[str, Any]
    runs: tuple[Run, ...]
    swept: Mapping[str, SweptRuns]
    most_compared: int

    @property
    def source(self) -> Run:
        """P."""
        return self.runs[0]

    @property
    def is_multilabel(self) -> bool:
        """Whether an image of the target can have several labels."""
        return any(run.spec.loss == "multilabel" for run in self.plain())

    def plain(self) -> list[Run]:
        """The P-T, RI-T and further arms on the plain target, at all rates."""
        return [run for run in self.runs if run.axis == "" and run.kind != "P"]

    def of_kind(self, kind: str, shuffle: str = "none") -> list[Run]:
        """The runs of a kind on the plain target or a shuffled one, at the rate of their config."""
        return [
            run
            for run in self.runs
            if (run.kind, run.shuffle, run.is_further_rate) == (kind, shuffle, False)
            and run.axis in ("", "shuffle")
        ]

    def kinds(self) -> list[str]:
        """The kinds of run on the plain target: P-T, RI-T, then further arms."""
        return list(dict.fromkeys(run.kind for run in self.plain()))

    def firsts(self) -> list[Run]:
        """The first run of each kind on the plain target."""
        return [self.of_kind(kind)[0] for kind in self.kinds()]

    def compared(self, kind: str, shuffle: str = "none", most: int | None = None) -> list[Run]:
        """The runs of a kind that are compared: `most_compared` of them, or fewer."""
        limit = self.most_compared if most is None else min(most, self.most_compared)
        return self.of_kind(kind, shuffle)[:limit]

    def each(self, most: int | None = None) -> list[Run]:
        """The compared runs of every kind on the plain target."""
        return [run for kind in self.kinds() for run in self.compared(kind, most=most)]

    def recipe_pairs(self, shuffle: str = "none", most: int | None = None) -> list[Pair]:
        """All pairs of two runs of one kind, kind by kind."""
        return [pair for kind in self.kinds() for pair in self.pairs_of(kind, shuffle, most)]

    def pairs_of(self, kind: str, shuffle: str = "none", most: int | None = None) -> list[Pair]:
        """All pairs of two runs of a kind on the same images."""
        runs = self.compared(kind, shuffle, most)
        pairs = itertools.combinations(runs, 2)
        return [Pair(a, b) for a, b in pairs if a.spec.data == b.spec.data]

    def mixed_pairs(self, shuffle: str = "none") -> list[Pair]:
        """P-T and RI-T of one replicate: pairs that share no run."""
        of_both = zip(*(self.compared(kind, shuffle) for kind in ("P-T", "RI-T")), strict=True)
        return [Pair(p_t, ri_t) for p_t, ri_t in of_both]

    def target_pairs(self, shuffle: str = "none") -> list[Pair]:
        """The pairs of the paper's figures: two of each kind, and P-T with RI-T."""
        return self.recipe_pairs(shuffle) + self.mixed_pairs(shuffle)

    def source_pairs(self, *kinds: str, shuffle: str = "none") -> list[Pair]:
        """The pairs with P: of each run of some kinds, by default all."""
        runs = [run for kind in kinds or self.kinds() for run in self.compared(kind, shuffle)]
        return [Pair(run, self.source) for run in runs]

    def forked(self) -> list[tuple[Run, tuple[Run, ...]]]:
        """The runs of which there are copies, each with its copies by the step of parting."""
        found = []
        for run in self.plain():
            copies = [
                copy
                for copy in self.runs
                if copy.axis == FORK
                and (copy.kind, copy.replicate) == (run.kind, run.replicate)
                and not run.is_further_rate
            ]
            if copies:
                found.append((run, tuple(copies)))
        return found

    def shuffles(self) -> list[str]:
        """The shuffles of the target's images besides none."""
        return [s for s in dict.fromkeys(run.shuffle for run in self.runs) if s != "none"]

    def plane_corners(self) -> tuple[Run, Run, Run]:
        """Two P-T and one RI-T."""
        first, second = self.of_kind("P-T")[:2]
        return first, second, self.of_kind("RI-T")[0]
