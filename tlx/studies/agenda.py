"""All that a study asks of its runs, in the order in which it is answered."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from tlx.studies import asking, landscape, layers, modules, plan, questions
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
    """Every question of a study about its runs."""
    study = functools.partial(questions.study, spec, all_runs)
    return [
        Group("learning curves", _of(questions.curves, all_runs), 0.1),
        *_landscape(spec, all_runs),
        *_features(spec, all_runs),
        *_modules(spec, all_runs),
        *_functions(spec, all_runs),
        Group("the study", [study], 0.1),
    ]


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


def _functions(spec: StudySpec, all_runs: Sequence[plan.Run]) -> list[Group]:
    one_label = spec.scratch.loss == "softmax"  # of several, mistakes by class are not defined
    every = plan.all_target_pairs(all_runs) if one_label else []
    return [Group("mistakes", _of(questions.mistakes, every))]


def _of(ask: Callable[..., asking.Question], what: Iterable[Any]) -> list[Any]:
    return [functools.partial(ask, each) for each in what]
