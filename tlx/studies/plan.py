"""The runs of a study and the pairs that it compares; nothing is done here."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tlx.studies import partial
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
      part: the word of `StudySpec.partial` that it is for.
    """

    name: str
    kind: str
    replicate: int
    workdir: Path
    spec: RunSpec
    part: str = ""

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
    source = _run("P", 1, "none", spec.pretrain, workdir)
    start = InitFrom(workdir=str(source.workdir), step=spec.init_step, head=spec.init_head)
    finetune = dataclasses.replace(spec.finetune, init_from=start)
    variants = [("none", i + 1) for i in range(spec.replicates)]
    for shuffle in spec.shuffles:
        number = spec.replicates if shuffle in spec.replicated_shuffles else 1
        variants += [(shuffle, i + 1) for i in range(number)]
    whole = (
        _run(kind, replicate, shuffle, base, workdir)
        for shuffle, replicate in variants
        for kind, base in (("P-T", finetune), ("RI-T", spec.scratch))
    )
    return source, *whole, *(_part(word, finetune, workdir) for word in spec.partial)


def _run(kind: str, replicate: int, shuffle: str, base: RunSpec, workdir: Path) -> Run:
    name = kind if kind == "P" else f"{kind} {replicate}"
    name += "" if shuffle == "none" else f" {shuffle}"
    folder = name.lower().replace(" ", "_").replace(":", "_")
    data = base.data if kind == "P" else dataclasses.replace(base.data, shuffle=shuffle)
    seed = base.seed + (replicate - 1) * SEEDS_APART
    own = dataclasses.replace(base, name=name, kind=kind, seed=seed, data=data)
    return Run(name, kind, replicate, workdir / "runs" / folder, own)


def _part(word: str, finetune: RunSpec, workdir: Path) -> Run:
    name = f"P-T {word}"
    own = dataclasses.replace(partial.apply(word, finetune), name=name, kind=PART)
    folder = name.lower().replace(" ", "_").replace(":", "_")
    return Run(name, PART, 1, workdir / "runs" / folder, own, word)


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
    return [run for run in all_runs if run.kind == kind and run.shuffle == shuffle]
