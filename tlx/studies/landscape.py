"""The questions of a study about the loss landscape: planes, basins, units in another order."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tlx.analyses.landscape import barriers, basins, interpolation, planes
from tlx.analyses.landscape.permutations import alignment
from tlx.core import tree
from tlx.core.types import Params
from tlx.studies import asking
from tlx.studies.asking import CONFIDENCE, Question
from tlx.studies.plan import Pair, Run
from tlx.train.job import make_module


def plane(runs: Sequence[Run], num_points: int) -> Question:
    """Loss and accuracy on a grid of the plane through three runs."""

    def answer() -> dict[str, Any]:
        through = planes.through(*(asking.params(run) for run in runs))
        xs, ys = planes.cover(through.coordinates, num=num_points)
        found = planes.grid(
            asking.apply_fn(runs[0]),
            asking.metric(runs[0]),
            through.path_fn,
            asking.stream(runs[0]),
            xs=xs,
            ys=ys,
            marks=through.coordinates,
            statistics=asking.stream(runs[0], "train"),
        )
        return {
            "x": found.xs,
            "y": found.ys,
            "loss": found.results["loss"],
            "accuracy": found.results["accuracy"],
            "models_xy": through.coordinates,
            "model_loss": found.at_marks["loss"],
            "model_accuracy": found.at_marks["accuracy"],
            "count": found.at_marks["count"][0],
            "statistics": found.statistics,
        }

    inputs = {
        "models": [run.name for run in runs],
        "kinds": [run.kind for run in runs],
        "split": "test",
    }
    data = asking.data_of(runs)
    return Question("plane", inputs, {"num_points": num_points}, data, answer)


def basin(pair: Pair, *, noise: Sequence[float], num_draws: int, tolerance: float) -> Question:
    """Whether two runs share a basin of the 0-1 error, and its epsilon and delta."""

    def answer() -> dict[str, Any]:
        models = [asking.params(run) for run in pair]
        size = tree.count([x for x in jax.tree.leaves(models[0]) if tree.is_inexact(x)])
        found = basins.same_basin(
            asking.apply_fn(pair.a),
            models,
            asking.stream(pair.a),
            tolerances={"error": tolerance, "loss": np.inf},
            deltas=np.sqrt(size) * np.asarray(noise),
            key=jax.random.key(0),
            losses=asking.losses(pair.a),
            num_draws=num_draws,
            num_examples=asking.num_examples(pair.a),
            confidence=CONFIDENCE,
            statistics=asking.stream(pair.a, "train"),
        )
        own = found.basins["error"]
        return {
            "verdict": found.verdict,
            "barrier": found.barriers["loss"][0],
            "barrier_low": found.low["loss"][0],
            "barrier_high": found.high["loss"][0],
            "error_barrier": found.barriers["error"][0],
            "error_low": found.low["error"][0],
            "error_high": found.high["error"][0],
            "tolerance": tolerance,
            "mean_loss": own.mu,
            "epsilon": own.epsilon,
            "epsilon_error": own.epsilon_error,
            "deltas": own.deltas,
            "noise_rise": own.noise.excess,
            "noise_rise_error": own.noise.error,
            "beyond_rise": own.beyond.excess,
            "beyond_rise_error": own.beyond.error,
            "delta": own.delta,
            "num_draws": num_draws,
            "num_parameters": size,
            "count": asking.num_readable(pair.a),
            "statistics": found.statistics,
        }

    options = {
        "loss": "error",
        "noise": list(noise),
        "num_draws": num_draws,
        "tolerance": tolerance,
        "confidence": CONFIDENCE,
    }
    return asking.between("basin", pair, options, answer)


def permutation(pair: Pair, num_alphas: int) -> Question:
    """The line between two runs, with the second's hidden units in the order of the first's."""

    def answer() -> dict[str, Any]:
        apply_fn, calibration = asking.apply_fn(pair.a), asking.stream(pair.a, "train")
        a, b = asking.params(pair.a), asking.params(pair.b)
        inputs = next(iter(asking.stream(pair.a)()))["inputs"]
        symmetry = alignment.symmetry(apply_fn, a, inputs)
        by = {
            "weights": alignment.weight_matching(symmetry, a, b),
            "activations": alignment.activation_matching(apply_fn, symmetry, a, b, calibration),
        }
        placed = {"plain": b} | {
            name: alignment.apply_permutation(symmetry, matching.permutations, b)
            for name, matching in by.items()
        }
        for permuted in placed.values():
            alignment.check_same_function(apply_fn, b, permuted, inputs)
        lines = {name: (permuted, False) for name, permuted in placed.items()}
        lines["repaired"] = (placed["activations"], True)
        out: dict[str, Any] = {
            "distance_before": by["weights"].distance_before,
            "num_units": sum(group.size for group in symmetry.groups.values()),
            "count": asking.num_readable(pair.a),
        }
        out |= {f"distance_{name}": matching.distance_after for name, matching in by.items()}
        for name, (permuted, repair) in lines.items():
            out |= _line(pair, permuted, num_alphas, name, repair)
        return out

    options = {"num_alphas": num_alphas, "confidence": CONFIDENCE}
    return asking.between("permutation", pair, options, answer)


def _line(pair: Pair, b: Params, num_alphas: int, name: str, repair: bool) -> dict[str, Any]:
    alphas = np.linspace(0, 1, num_alphas, dtype=np.float32)
    found = interpolation.line(
        asking.apply_fn(pair.a),
        asking.mean_and_each(
            pair.a.spec.loss, asking.num_examples(pair.a), make_module(pair.a.spec).num_classes
        ),
        asking.params(pair.a),
        b,
        asking.stream(pair.a),
        alphas=alphas,
        statistics=asking.stream(pair.a, "train"),
        repair=repair,
    )
    each = found.results
    heights = {
        of: barriers.barrier_interval(
            alphas, each[values], kind="chord", key=jax.random.key(0), confidence=CONFIDENCE
        )
        for of, values in (("barrier", "loss"), ("accuracy_barrier", "error"))
    }
    out = {
        "alphas": alphas,
        "statistics": found.statistics,
        f"loss_{name}": each["mean"]["loss"],
        f"accuracy_{name}": each["mean"]["accuracy"],
    }
    for of, own in heights.items():
        ends = {"": own.height, "_low": own.low, "_high": own.high}
        out |= {f"{of}_{name}{end}": value for end, value in ends.items()}
    return out
