"""The questions of a study about single modules: rewinding, criticality, and how they moved."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tlx import checkpoints
from tlx.analyses.function import inference
from tlx.analyses.landscape.modules import criticality, pac_bayes, rewinding
from tlx.analyses.parameters import movement
from tlx.core import partition, paths, tree
from tlx.core.types import Labels, PathFn, Stream
from tlx.studies import asking
from tlx.studies.asking import CONFIDENCE, Question
from tlx.studies.plan import Pair, Run
from tlx.train.job import make_module

PATHS = ("direct", "optimisation")
"""From a run's step 0 to its last: the straight line, or through all its checkpoints."""

INTERPOLATE = "interpolate"
"""Batch statistics, where a model has any, move with their module."""


def rewound(run: Run) -> Question:
    """What a run loses on its test images where a module goes back to one of its checkpoints."""

    def answer() -> dict[str, Any]:
        steps = checkpoints.steps(run.workdir)
        trained = asking.params(run)
        found = rewinding.rewind(
            asking.apply_fn(run),
            asking.mean_and_error(run.spec.loss, asking.num_examples(run)),
            trained,
            [asking.params(run, step) for step in steps],
            asking.stream(run),
            labels=partition.by_depth(trained, 1),
            modules=_modules(run),
            statistics=INTERPOLATE,
        )
        mean, end = found.results["mean"], found.trained["mean"]
        low, high = _drop_interval(
            np.asarray(found.trained["error"]), np.asarray(found.results["error"])
        )
        return {
            "modules": list(found.modules),
            "step": list(steps),
            "accuracy": mean["accuracy"],
            "accuracy_drop": found.drops["mean"]["accuracy"],
            "accuracy_drop_low": low,
            "accuracy_drop_high": high,
            "loss": mean["loss"],
            "trained_accuracy": end["accuracy"],
            "trained_loss": end["loss"],
            "count": end["count"],
            "statistics": found.statistics,
        }

    options = {"confidence": CONFIDENCE}
    return _of_run("rewinding", run, options, answer, split="test", by_step=True)


def _drop_interval(trained: np.ndarray, rewound: np.ndarray) -> np.ndarray:
    """The ends [2, M, T] of the interval over examples of the accuracy lost.

    Of the errors [N] of the trained model and [M, T, N] of those with a module set back.
    """
    seen = np.isfinite(trained)
    is_share = bool(np.any((trained[seen] != 0) & (trained[seen] != 1)))  # of several labels
    found = []
    for own in rewound[..., seen].reshape(-1, int(seen.sum())):
        compared = (
            inference.difference(own, trained[seen], paired=True, confidence=CONFIDENCE)
            if is_share
            else inference.difference_of_examples(own, trained[seen], confidence=CONFIDENCE)
        )
        found.append((compared.low, compared.high))
    return np.moveaxis(np.reshape(found, (*rewound.shape[:-1], 2)), -1, 0)


def critical(
    run: Run,
    path: str,
    *,
    num_alphas: int,
    sigmas: Sequence[float],
    num_draws: int,
    tolerance: float,
) -> Question:
    """How far back each module of a run can go on a path, in what noise, on its training images.

    The threshold is the trained model's 0-1 error and the tolerance more.
    """

    def answer() -> dict[str, Any]:
        trained = asking.params(run)
        on = partition.by_depth(trained, 1)
        way, steps = _path(run, path)
        alphas = np.linspace(0, 1, len(steps) if path == "optimisation" else num_alphas)
        stream = asking.stream(run, "train")
        surface = criticality.surface(
            asking.apply_fn(run), way, stream,
            labels=on, alphas=alphas, sigmas=sigmas, key=jax.random.key(0),
            losses=asking.losses(run), num_draws=num_draws, modules=_modules(run),
            statistics=INTERPOLATE,
        )  # fmt: skip
        found = criticality.criticality(surface, surface.trained["error"] + tolerance)
        return {
            "modules": list(surface.modules),
            "alphas": surface.alphas,
            "step": list(steps),
            "sigmas": surface.sigmas,
            "distances": surface.distances,
            "sizes": surface.sizes,
            **surface.losses,
            **{f"{name}_error": value for name, value in surface.errors.items()},
            **{f"trained_{name}": value for name, value in surface.trained.items()},
            "threshold": found.threshold,
            "criticality": found.values,
            "alpha": found.alpha,
            "sigma": found.sigma,
            "total": found.total,
            **_bound(run, way, stream, on, surface, found),
            "count": asking.num_readable(run, "train"),
            "num_draws": num_draws,
            "statistics": surface.statistics,
        }

    options = {
        "num_alphas": num_alphas,
        "sigmas": list(sigmas),
        "num_draws": num_draws,
        "tolerance": tolerance,
    }
    asked = _of_run("criticality", run, options, answer, split="train", by_step=path != "direct")
    return asked._replace(inputs={**asked.inputs, "path": path})


def moved(run: Run) -> Question:
    """How far each module of a run was from its start by step, and how straight it went there."""

    def answer() -> dict[str, Any]:
        steps = checkpoints.steps(run.workdir)
        trained = asking.weights(run)
        found = movement.trajectory(
            (asking.weights(run, step) for step in steps),
            partition.by_depth(trained, 1),
            modules=_modules(run),
            end=trained,
        )
        fields = ("norm", "displacement", "path", "straightness", "to_end")
        total = {f"total_{name}": getattr(found.total, name) for name in fields}
        each = {name: getattr(found.by_module, name) for name in fields}
        return {"modules": list(found.modules), "step": list(steps), **each, **total}

    inputs = {"run": run.name, "kind": run.kind, "shuffle": run.shuffle}
    data = {"checkpoints": asking.identities_by_step(run)}
    return Question("movement", inputs, {}, data, answer)


def moved_alike(pair: Pair, rank: int) -> Question:
    """Whether two runs moved in the same directions, module by module and weight by weight."""

    def answer() -> dict[str, Any]:
        a, b = (asking.weights(run) for run in pair)
        start_a, start_b = (asking.weights(run, 0) for run in pair)
        found = movement.alignment_of_movement(
            a, b, partition.by_depth(a, 1), start=start_a, start_b=start_b, modules=_modules(pair.a)
        )
        shared = movement.subspace_overlap(tree.sub(a, start_a), tree.sub(b, start_b), rank=rank)
        return {
            "modules": list(found.modules),
            "cosine": found.by_module.cosine,
            "chance": found.by_module.chance,
            "z": found.by_module.z,
            "total_cosine": found.total.cosine,
            "total_z": found.total.z,
            "layers": [asking.layer_name(leaf) for leaf in shared.leaves],
            "overlap_inputs": shared.inputs,
            "overlap_inputs_chance": shared.inputs_chance,
            "overlap_outputs": shared.outputs,
            "overlap_outputs_chance": shared.outputs_chance,
        }

    return asking.between("movement_alike", pair, {"rank": rank}, answer, on_data=False)


BOUND_DRAWS = 20
"""Networks with noise in all modules at once, for the bound."""


def _bound(
    run: Run,
    way: PathFn,
    stream: Stream,
    on: Labels,
    surface: criticality.Surface,
    found: criticality.Criticality,
) -> dict[str, Any]:
    """The PAC-Bayes bound at the minimisers; NaN without them, and with batch statistics."""
    if not np.isfinite(found.values).all() or surface.statistics != "none":
        return {"bound": np.nan, "bound_noisy_error": np.nan, "bound_complexity": np.nan}
    errors = pac_bayes.noisy_errors(
        asking.apply_fn(run), way, stream,
        labels=on, modules=found.modules, alphas=found.alpha, sigmas=found.sigma,
        key=jax.random.key(1), num_draws=BOUND_DRAWS, loss=asking.losses(run)["error"],
    )  # fmt: skip
    place = np.searchsorted(surface.alphas, found.alpha)
    bound = pac_bayes.bound(
        errors,
        np.take_along_axis(surface.distances, place[:, None], 1)[:, 0],
        surface.sizes,
        found.sigma,
        num_examples=asking.num_readable(run, "train"),
    )
    return {
        "bound": bound.value,
        "bound_noisy_error": bound.noisy_error,
        "bound_complexity": bound.complexity,
    }


def _modules(run: Run) -> list[str]:
    return list(make_module(run.spec).module_names)


def _path(run: Run, path: str) -> tuple[PathFn, tuple[int, ...]]:
    steps = checkpoints.steps(run.workdir)
    if path == "direct":
        steps = (steps[0], steps[-1])
    return paths.polygon([asking.params(run, step) for step in steps]), steps


def _of_run(
    name: str, run: Run, options: dict[str, Any], answer: Any, *, split: str, by_step: bool
) -> Question:
    inputs = {
        "run": run.name,
        "kind": run.kind,
        "shuffle": run.shuffle,
        "replicate": run.replicate,
        "split": split,
    }
    data: dict[str, Any] = {
        "run": asking.identities(run),
        "examples": asking.examples_of(run),
    }
    if by_step:
        data["checkpoints"] = asking.identities_by_step(run)
    return Question(name, inputs, options, data, answer)
