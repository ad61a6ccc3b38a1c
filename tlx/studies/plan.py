"""What a study does: its runs, from its config."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tlx.data.examples import open_split
from tlx.studies import axes, partial
from tlx.studies.runs import FORK, PART, Plan, Run, SweptRuns
from tlx.studies.spec import SEEDS_APART, StudySpec
from tlx.train.spec import ForkSpec, InitFrom, RunSpec

FORKED = 3
"""Replicates of P-T and RI-T of which copies are made."""


def make(spec: StudySpec, workdir: Path) -> Plan:
    """The plan of a study in its folder."""
    runs = _runs(spec, workdir)
    swept = {axis: _swept(spec, runs, axis) for axis in axes.NAMES if getattr(spec.axes, axis)}
    return Plan(spec.name, spec.saved(), runs, swept, spec.most_compared)


def _runs(spec: StudySpec, workdir: Path) -> tuple[Run, ...]:
    source = _run("P", "P", spec.pretrain, workdir)
    start = InitFrom(workdir=str(source.workdir), step=spec.init_step, head=spec.init_head)
    finetune = dataclasses.replace(spec.finetune, init_from=start)
    statistics = dataclasses.replace(start, weights="statistics")
    of_kind = {
        "P-T": finetune,
        "RI-T": spec.scratch,
        "S-T": dataclasses.replace(spec.finetune, init_from=statistics),
    }
    cells = [axes.PLAIN, *(cell for axis in axes.NAMES for cell in spec.axes.cells(axis))]
    swept_runs = [run for cell in cells for run in _of_cell(spec, cell, of_kind, workdir)]
    parts = (
        _run(f"P-T {word}", PART, partial.apply(word, finetune), workdir)._replace(
            axis="part", value=word
        )
        for word in spec.partial
    )
    forks = (
        _fork(run, step, spec.fork_noise, workdir)
        for run in swept_runs
        if run.kind in axes.BOTH and run.axis == "" and not run.is_further_rate
        if run.replicate <= FORKED
        for step in sorted(spec.forks)
    )
    return source, *swept_runs, *forks, *parts


def _fork(run: Run, step: int, noise: float, workdir: Path) -> Run:
    """The copy of a run that parts from it at a step, by another order of the data or by noise."""
    seed = run.spec.seed if noise else run.spec.seed + SEEDS_APART // 2
    fork = ForkSpec(step=step, seed=seed, noise=noise)
    spec = dataclasses.replace(run.spec, fork=fork)
    made = _run(f"{run.name} fork:{step}", run.kind, spec, workdir)
    return made._replace(replicate=run.replicate, axis=FORK, value=str(step))


def _of_cell(
    spec: StudySpec, cell: axes.Cell, of_kind: Mapping[str, RunSpec], workdir: Path
) -> Iterator[Run]:
    """The runs of a cell: replicates × rates × kinds; those that start from others come last."""
    kinds = axes.kinds(cell.axis, spec.arms)
    of_cell = list(_replicates(spec, cell, of_kind, [k for k in kinds if k != "C-T"], workdir))
    yield from of_cell
    if "C-T" not in kinds:
        return
    tuned = [run for run in of_cell if run.kind == "P-T" and not run.is_further_rate]
    first, *others = (str(run.workdir) for run in tuned)
    centre = InitFrom(workdir=first, average=tuple(others), head="keep")
    base = dataclasses.replace(of_kind["P-T"], init_from=centre)
    yield from _replicates(spec, cell, {"C-T": base}, ["C-T"], workdir)


def _replicates(
    spec: StudySpec,
    cell: axes.Cell,
    of_kind: Mapping[str, RunSpec],
    kinds: Sequence[str],
    workdir: Path,
) -> Iterator[Run]:
    for i in range(spec.replicates):
        for kind in kinds:
            base = axes.apply(cell, of_kind[kind])
            base = dataclasses.replace(base, seed=base.seed + i * SEEDS_APART)
            if spec.shuffle_by_seed and cell.axis == "shuffle":
                base = axes.reshuffled(base, i)
            plain_rate = base.optim.rate
            for rate in dict.fromkeys((plain_rate, *spec.rates)):
                further = "" if rate == plain_rate else f"rate:{rate:g}"
                words = [kind, str(i + 1), cell.word, further]
                optim = dataclasses.replace(base.optim, rate=rate)
                run = dataclasses.replace(base, optim=optim)
                made = _run(" ".join(filter(None, words)), kind, run, workdir)
                yield made._replace(
                    replicate=i + 1,
                    axis=cell.axis,
                    value=cell.value,
                    is_further_rate=rate != plain_rate,
                )


def _run(name: str, kind: str, base: RunSpec, workdir: Path) -> Run:
    folder = name.lower().replace(" ", "_").replace(":", "_").replace("/", "_")
    spec = dataclasses.replace(base, name=name, kind=kind)
    return Run(name, kind, 1, workdir / "runs" / folder, spec)


def _swept(spec: StudySpec, runs: Sequence[Run], axis: str) -> SweptRuns:
    """The runs at each value of an axis in its order, the plain ones at theirs."""
    kinds, plain = axes.kinds(axis, spec.arms), _plain_value(spec, axis)
    names = [cell.value for cell in spec.axes.cells(axis)]
    cells = {name: [r for r in runs if (r.axis, r.value) == (axis, name)] for name in names}
    at_plain = {plain: [r for r in runs if r.axis == "" and r.kind in kinds]}
    cells = {**at_plain, **cells} if axis == "target" else {**cells, **at_plain}
    if axis == "train_size":
        cells = {name: cells[name] for name in sorted(cells, key=int)}
    return SweptRuns(axis, kinds, cells, plain)


def _plain_value(spec: StudySpec, axis: str) -> str:
    """Where the plain runs are on an axis."""
    data = spec.finetune.data
    if axis == "train_size":
        return str(len(open_split(data, "train")[1]))
    last = spec.pretrain.num_steps if spec.init_step == "last" else spec.init_step
    return {"shuffle": "none", "target": data.name, "init_step": str(last)}[axis]
