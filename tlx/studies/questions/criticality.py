"""How critical each module of a run is, on its training images."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from tlx import checkpoints
from tlx.analyses.landscape.modules import criticality, pac_bayes
from tlx.config import problems as check
from tlx.core import partition, paths
from tlx.core.types import Labels, PathFn
from tlx.records import results
from tlx.studies import keys, trained
from tlx.studies.question import Question, arrays, increasing
from tlx.studies.runs import Plan, Run

PATHS = ("direct", "optimisation", "best")
"""From a run's step 0: straight to its last, through all its checkpoints, straight to its best."""

BOUND_DRAWS = 20
"""Networks with noise in all modules at once, for the bound."""


class RunOnPath(NamedTuple):
    """A run, and the way that its modules go back: one of `PATHS`."""

    run: Run
    path: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Criticality(Question):
    """How far back each module of a run can go on a path, in what noise, on its training images.

    The threshold is the trained model's 0-1 error and the tolerance more. Batch statistics, where
    a model has any, move with their module.

    Attributes:
      num_alphas: places on the straight line from step 0 to the last at which each module is
        tried, ends included, at least 2; on the way of the optimiser it is tried at every
        checkpoint.
      sigmas: increasing from 0 or more, with one above 0; the noise that a module is tried in,
        as the standard deviation on each weight.
      num_draws: draws of that noise, at least 1.
      tolerance: how far the 0-1 error may be above the trained model's for a module's place and
        noise to count as harmless, at least 0.
    """

    version: ClassVar[int] = 1
    replicates: ClassVar[int] = 1
    weight: ClassVar[float] = 180.0

    num_alphas: int = 11
    sigmas: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    num_draws: int = 3
    tolerance: float = 0.02

    def problems(self) -> list[str]:
        """Everything that is wrong with its options."""
        problems = check.integer("num_alphas", self.num_alphas, low=2)
        problems += increasing("sigmas", self.sigmas)
        problems += check.integer("num_draws", self.num_draws, low=1)
        return problems + check.number("tolerance", self.tolerance, low=0)

    def subjects(self, plan: Plan) -> list[RunOnPath]:
        """The first run of every kind on each path; on that to its best where it is kept."""
        return [
            RunOnPath(run, path)
            for run in plan.firsts()
            for path in PATHS
            if path != "best" or run.spec.checkpoint.keep_best
        ]

    def key(self, on_path: RunOnPath) -> keys.Key:
        """Of one run on one path."""
        run, path = on_path
        key = keys.of_run(run, "train", by_step=path == "optimisation")
        data = dict(key.data)
        if path == "best":
            best = checkpoints.resolve(run.workdir, "best")
            data["best"] = keys.weights_at(run, best)
        return key._replace(inputs={**key.inputs, "path": path}, data=data)

    def answer(self, on_path: RunOnPath) -> results.Criticality:
        """The errors on the path, and what they say of each module."""
        run, path = on_path
        labels = partition.by_depth(trained.params(run), 1)
        path_fn, steps = _path(run, path)
        num_alphas = len(steps) if path == "optimisation" else self.num_alphas
        surface = criticality.surface(
            trained.apply_fn(run),
            path_fn,
            trained.stream(run, "train"),
            labels=labels,
            alphas=np.linspace(0, 1, num_alphas),
            sigmas=self.sigmas,
            key=jax.random.key(0),
            losses=trained.losses(run),
            num_draws=self.num_draws,
            modules=trained.modules(run),
            statistics="interpolate",
        )
        least = criticality.criticality(surface, surface.trained["error"] + self.tolerance)
        return arrays(
            results.Criticality,
            modules=list(surface.modules),
            alphas=surface.alphas,
            step=list(steps),
            sigmas=surface.sigmas,
            distances=surface.distances,
            sizes=surface.sizes,
            **surface.losses,
            **{f"{name}_error": value for name, value in surface.errors.items()},
            **{f"trained_{name}": value for name, value in surface.trained.items()},
            threshold=least.threshold,
            criticality=least.values,
            alpha=least.alpha,
            sigma=least.sigma,
            total=least.total,
            **_bound(run, path_fn, labels, surface, least),
            num_examples=trained.num_readable(run, "train"),
            num_draws=self.num_draws,
            statistics=surface.statistics,
        )


def _path(run: Run, path: str) -> tuple[PathFn, tuple[int, ...]]:
    steps = checkpoints.steps(run.workdir)
    if path != "optimisation":
        last = checkpoints.resolve(run.workdir, "best") if path == "best" else steps[-1]
        steps = (steps[0], last)
    return paths.polygon([trained.params(run, step) for step in steps]), steps


def _bound(
    run: Run,
    path_fn: PathFn,
    labels: Labels,
    surface: criticality.Surface,
    least: criticality.Criticality,
) -> dict[str, Any]:
    """The PAC-Bayes bound at the minimisers; NaN without them, and with batch statistics."""
    if not np.isfinite(least.values).all() or surface.statistics != "none":
        return {"bound": np.nan, "bound_noisy_error": np.nan, "bound_complexity": np.nan}
    errors = pac_bayes.noisy_errors(
        trained.apply_fn(run),
        path_fn,
        trained.stream(run, "train"),
        labels=labels,
        modules=least.modules,
        alphas=least.alpha,
        sigmas=least.sigma,
        key=jax.random.key(1),
        num_draws=BOUND_DRAWS,
        loss=trained.losses(run)["error"],
        chunk=trained.chunk(),
    )
    place = np.searchsorted(surface.alphas, least.alpha)
    bound = pac_bayes.bound(
        errors,
        np.take_along_axis(surface.distances, place[:, None], 1)[:, 0],
        surface.sizes,
        least.sigma,
        num_examples=trained.num_readable(run, "train"),
    )
    return {
        "bound": bound.value,
        "bound_noisy_error": bound.noisy_error,
        "bound_complexity": bound.complexity,
    }
