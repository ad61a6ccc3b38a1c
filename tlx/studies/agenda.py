"""All that a study asks of its runs, in the order in which it is answered."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from tlx.studies import (
    asking,
    axes,
    curves,
    landscape,
    layers,
    mistakes,
    modules,
    plan,
    questions,
    starts,
    sweeps,
)
from tlx.studies.spec import StudySpec

WEIGHT = 60.0
"""What answering a question counts for in the time left, in training steps."""


class Group(NamedTuple):
    """Questions of one kind; each is made once its runs are done.

    Attributes:
      name: what people are told.
      each: makes a question.
      steps: what one of them counts for in the time left.
    """

    name: str
    each: Sequence[Callable[[], asking.Question]]
    steps: float = WEIGHT

    @property
    def weight(self) -> float:
        """What all of them count for."""
        return self.steps * len(self.each)


def groups(spec: StudySpec, all_runs: Sequence[plan.Run]) -> list[Group]:
    """The questions that a study asks about its runs."""
    plain = [run for run in all_runs if run.axis == "" and run.kind in axes.BOTH]
    study = functools.partial(questions.study, spec, all_runs)
    learned = [*_of(curves.of_run, all_runs), functools.partial(curves.by_recipe, plain)]
    every = [*_reuse(spec, all_runs), Group("mistakes", _mistakes(plain))]
    if spec.replicates > 1:
        every += [
            *_landscape(spec, all_runs),
            *_features(spec, all_runs),
            *_modules(spec, all_runs),
        ]
    if spec.scratch.loss == "multilabel":  # they are of one class an image
        every = [group for group in every if group.name not in ("transferability", "linear probes")]
    asked = spec.questions or [group.name for group in every]
    return [
        Group("learning curves", learned, 0.1),
        *(group for group in every if group.name in asked and group.each),
        Group("the study", [study], 0.1),
    ]


def _reuse(spec: StudySpec, all_runs: Sequence[plan.Run]) -> list[Group]:
    along = {axis: plan.sweep(spec, all_runs, axis) for axis in axes.NAMES}
    found = {axis: cells for axis, cells in along.items() if len(cells) > 1}
    asked = [
        functools.partial(sweeps.sweep, axis, cells, axes.plain_value(spec, axis))
        for axis, cells in found.items()
    ]
    groups = [Group("sweeps", asked)]
    source = all_runs[0]
    if "init_step" in found:
        cells = found["init_step"]
        checkpoints = functools.partial(
            starts.checkpoints,
            source,
            [int(step) for step in cells],
            num_alphas=spec.num_alphas,
            tolerance=spec.basin_tolerance,
        )
        scores = functools.partial(starts.scores, source, cells)
        groups += [Group("checkpoints", [checkpoints], len(cells) * WEIGHT)]
        groups += [Group("transferability", [scores], len(cells) * WEIGHT)]
    if "target" in found:
        targets = {name: own[0] for name, own in found["target"].items()}
        distances = functools.partial(starts.distances, source, targets)
        groups += [Group("domains", [distances])]
    return groups


def _mistakes(plain: Sequence[plan.Run]) -> list[Callable[[], asking.Question]]:
    own = sorted((run for run in plain if not run.is_further_rate), key=lambda run: run.kind)
    return [functools.partial(mistakes.common, own)]


def _landscape(spec: StudySpec, all_runs: Sequence[plan.Run]) -> list[Group]:
    every, kin = plan.all_target_pairs(all_runs), plan.kin(all_runs)
    line = functools.partial(questions.line, num_alphas=spec.num_alphas)
    plane = functools.partial(landscape.plane, num_points=spec.plane_points)
    basin = functools.partial(
        landscape.basin,
        noise=spec.basin_noise,
        num_draws=spec.basin_draws,
        tolerance=spec.basin_tolerance,
    )
    permutation = functools.partial(landscape.permutation, num_alphas=spec.num_alphas)
    return [
        Group("lines", _of(line, every)),
        Group("planes", _of(plane, [plan.corners(all_runs)]), 8 * WEIGHT),
        Group("basins", _of(basin, kin), 5 * WEIGHT),
        Group("permutations", _of(permutation, kin[1:]), 5 * WEIGHT),
    ]


def _features(spec: StudySpec, all_runs: Sequence[plan.Run]) -> list[Group]:
    target, source = plan.target_pairs(all_runs), plan.source_pairs(all_runs)
    cka: dict[str, Any] = {
        "batch_size": spec.similarity_batch,
        "spatial": spec.similarity_spatial,
        "num_resamples": spec.similarity_resamples,
    }
    alignment = functools.partial(questions.alignment, **cka)
    trajectory = functools.partial(questions.trajectory, **cka)
    compared = target + source[:1] + plan.shuffled_pairs(all_runs)
    p_t, ri_t = (pair.a for pair in source)
    read: list[tuple[plan.Pair, int | None]] = [
        (plan.Pair(all_runs[0], p_t), None),
        (plan.Pair(p_t, p_t), None),
        (plan.Pair(ri_t, ri_t), None),
        (plan.Pair(ri_t, ri_t), 0),
    ]
    return [
        Group("feature similarity", _of(alignment, compared)),
        Group("similarity by step", _of(trajectory, source), 2 * WEIGHT),
        Group("linear probes", [functools.partial(layers.probed, *each) for each in read]),
    ]


def _modules(spec: StudySpec, all_runs: Sequence[plan.Run]) -> list[Group]:
    source = plan.source_pairs(all_runs)
    trained = [pair.a for pair in source]  # the first P-T and the first RI-T
    critical = functools.partial(
        modules.critical,
        num_alphas=spec.criticality_alphas,
        sigmas=spec.criticality_noise,
        num_draws=spec.criticality_draws,
        tolerance=spec.criticality_tolerance,
    )
    ways = [functools.partial(critical, run, path) for run in trained for path in modules.PATHS]
    alike = functools.partial(modules.moved_alike, rank=spec.subspace_rank)
    spectrum = functools.partial(layers.spectrum, kind=spec.spectra_kind)
    return [
        Group("rewinding", _of(modules.rewound, trained)),
        Group("criticality", ways, 3 * WEIGHT),
        Group("distances", _of(questions.distance, plan.target_pairs(all_runs) + source), 5.0),
        Group("movement", _of(modules.moved, trained), 5.0),
        Group("shared directions", _of(alike, plan.kin(all_runs)), 5.0),
        Group("spectra", _of(spectrum, [all_runs[0], *trained])),
    ]


def _of(ask: Callable[..., asking.Question], what: Iterable[Any]) -> list[Any]:
    return [functools.partial(ask, each) for each in what]
