"""The runs of a study and the pairs that it compares; nothing is done here."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tlx.studies import axes, partial
from tlx.studies.spec import SEEDS_APART, StudySpec
from tlx.train.spec import InitFrom, RunSpec

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


def runs(spec: StudySpec, workdir: Path) -> tuple[Run, ...]:
    """The runs in the order in which they can be done, P first."""
    source = _run("P", "P", spec.pretrain, workdir)
    start = InitFrom(workdir=str(source.workdir), step=spec.init_step, head=spec.init_head)
    finetune = dataclasses.replace(spec.finetune, init_from=start)
    of_kind = {"P-T": finetune, "RI-T": spec.scratch}
    cells = [axes.PLAIN, *(cell for axis in axes.NAMES for cell in axes.cells(spec, axis))]
    swept = (run for cell in cells for run in _of_cell(spec, cell, of_kind, workdir))
    parts = (
        _run(f"P-T {word}", PART, partial.apply(word, finetune), workdir)._replace(
            axis="part", value=word
        )
        for word in spec.partial
    )
    return source, *swept, *parts


def _of_cell(
    spec: StudySpec, cell: axes.Cell, of_kind: dict[str, RunSpec], workdir: Path
) -> Iterator[Run]:
    """The runs of a cell: replicates × rates × kinds."""
    for i in range(spec.replicates):
        for kind in axes.KINDS[cell.axis]:
            base = axes.apply(cell, of_kind[kind])
            base = dataclasses.replace(base, seed=base.seed + i * SEEDS_APART)
            own = base.optim.rate
            for rate in dict.fromkeys((own, *spec.rates)):
                words = [kind, str(i + 1), cell.word, "" if rate == own else f"rate:{rate:g}"]
                optim = dataclasses.replace(base.optim, rate=rate)
                run = dataclasses.replace(base, optim=optim)
                made = _run(" ".join(filter(None, words)), kind, run, workdir)
                yield made._replace(
                    replicate=i + 1,
                    axis=cell.axis,
                    value=cell.value,
                    is_further_rate=rate != own,
                )


def _run(name: str, kind: str, base: RunSpec, workdir: Path) -> Run:
    folder = name.lower().replace(" ", "_").replace(":", "_").replace("/", "_")
    own = dataclasses.replace(base, name=name, kind=kind)
    return Run(name, kind, 1, workdir / "runs" / folder, own)


def sweep(spec: StudySpec, all_runs: Sequence[Run], axis: str) -> dict[str, list[Run]]:
    """The runs at each value of an axis in its order, the plain ones at theirs."""
    names = [cell.value for cell in axes.cells(spec, axis)]
    own = {name: [r for r in all_runs if (r.axis, r.value) == (axis, name)] for name in names}
    plain = [r for r in all_runs if r.axis == "" and r.kind in axes.KINDS[axis]]
    ends = {axes.plain_value(spec, axis): plain}
    every = {**ends, **own} if axis == "target" else {**own, **ends}
    if axis != "train_size":
        return every
    return {name: every[name] for name in sorted(every, key=int)}


def target_pairs(all_runs: Sequence[Run]) -> list[Pair]:
    """The pairs of the paper's figures on the plain target: two P-T, two RI-T, one of each."""
    p_t, ri_t = _plain(all_runs, "P-T"), _plain(all_runs, "RI-T")
    return [Pair(p_t[0], p_t[1]), Pair(p_t[0], ri_t[0]), Pair(ri_t[0], ri_t[1])]


def shuffled_pairs(all_runs: Sequence[Run]) -> list[Pair]:
    """The pairs on each shuffled target that its runs allow, and its P-T with P."""
    pairs = []
    for shuffle in dict.fromkeys(run.shuffle for run in all_runs if run.shuffle != "none"):
        p_t, ri_t = _of(all_runs, "P-T", shuffle), _of(all_runs, "RI-T", shuffle)
        pairs += [Pair(*own[:2]) for own in (p_t, ri_t) if len(own) > 1]
        pairs += [Pair(p_t[0], ri_t[0]), Pair(p_t[0], all_runs[0])]
    return pairs


def all_target_pairs(all_runs: Sequence[Run]) -> list[Pair]:
    """Every pair of P-T and RI-T runs on the plain target, P-T first."""
    plain = [*_plain(all_runs, "P-T"), *_plain(all_runs, "RI-T")]
    return [Pair(a, b) for a, b in itertools.combinations(plain, 2)]


def corners(all_runs: Sequence[Run]) -> tuple[Run, Run, Run]:
    """Two P-T and one RI-T, for a plane."""
    first, second = _plain(all_runs, "P-T")[:2]
    return first, second, _plain(all_runs, "RI-T")[0]


def kin(all_runs: Sequence[Run]) -> list[Pair]:
    """The first two P-T and the first two RI-T."""
    first, _, last = target_pairs(all_runs)
    return [first, last]


def source_pairs(all_runs: Sequence[Run]) -> list[Pair]:
    """The pairs with the pretrained model on the plain target: P-T and P, RI-T and P."""
    source = all_runs[0]
    return [Pair(_plain(all_runs, kind)[0], source) for kind in ("P-T", "RI-T")]


def _plain(all_runs: Sequence[Run], kind: str) -> list[Run]:
    return _of(all_runs, kind, "none")


def _of(all_runs: Sequence[Run], kind: str, shuffle: str) -> list[Run]:
    return [
        run
        for run in all_runs
        if (run.kind, run.shuffle, run.is_further_rate) == (kind, shuffle, False)
        and run.axis in ("", "shuffle")
    ]
