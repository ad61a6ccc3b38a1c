"""The questions of a study about runs and pairs of them: each is answered into a record."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tlx import checkpoints
from tlx.adapters import linen
from tlx.analyses.features.similarity import cka_matrix
from tlx.analyses.landscape import barriers, interpolation
from tlx.analyses.parameters import distances, movement
from tlx.core import partition
from tlx.core.types import Params
from tlx.studies import asking
from tlx.studies.asking import CONFIDENCE, Question
from tlx.studies.plan import Pair, Run
from tlx.studies.spec import StudySpec
from tlx.train.job import make_module
from tlx.train.spec import HEAD
from tlx.train.workdir import read_result

EVIDENCE = ("debiased", "biased", "chance", "z", "low", "high", "too_few")
"""The fields of a `similarity.CkaResult` that are recorded, each [Lx, Ly]."""


def line(pair: Pair, num_alphas: int) -> Question:
    """Loss and accuracy on the target's test set along the line between two runs."""

    def answer() -> dict[str, Any]:
        alphas = np.linspace(0, 1, num_alphas, dtype=np.float32)
        found = interpolation.line(
            asking.apply_fn(pair.a),
            asking.mean_and_each(
                pair.a.spec.loss,
                asking.num_examples(pair.a),
                make_module(pair.a.spec).num_classes,
            ),
            asking.params(pair.a),
            asking.params(pair.b),
            asking.stream(pair.a),
            alphas=alphas,
            statistics=asking.stream(pair.a, "train"),
        )
        mean = found.results["mean"]
        loss, dip = (
            barriers.barrier_interval(
                alphas, found.results[name], kind="chord", key=jax.random.key(0),
                confidence=CONFIDENCE,
            )
            for name in ("loss", "error")
        )  # fmt: skip
        endpoint_mean = barriers.barrier(alphas, mean["loss"], kind="endpoint_mean")
        return {
            "alphas": alphas,
            "loss": mean["loss"],
            "accuracy": mean["accuracy"],
            "count": mean["count"][0],
            "barrier_chord": loss.height,
            "barrier_chord_low": loss.low,
            "barrier_chord_high": loss.high,
            "barrier_endpoint_mean": endpoint_mean.height,
            "accuracy_barrier": dip.height,
            "accuracy_barrier_low": dip.low,
            "accuracy_barrier_high": dip.high,
            "statistics": found.statistics,
            **_areas(alphas, mean),
        }

    options = {"num_alphas": num_alphas, "confidence": CONFIDENCE}
    return asking.between("interpolation", pair, options, answer)


def _areas(alphas: np.ndarray, mean: Mapping[str, Any]) -> dict[str, Any]:
    """Of several labels an image: the mean area under their ROC curves, and its dip."""
    if "auc" not in mean:
        return {}
    return {
        "auc": mean["auc"],
        "auc_barrier": barriers.barrier(alphas, -mean["auc"], kind="chord").height,
    }


def alignment(pair: Pair, *, batch_size: int, spatial: str, num_resamples: int) -> Question:
    """Kernel alignment of all layers of two runs on the test set of the first one's target."""
    options = _alignment_options(batch_size, spatial, num_resamples)

    def answer() -> dict[str, Any]:
        found = _aligned(pair, asking.params(pair.a), options)
        return {
            "layers_a": list(found.layers_x),
            "layers_b": list(found.layers_y),
            **{name: getattr(found, name) for name in EVIDENCE},
            "count": found.num_examples,
            "num_left_out": found.num_left_out,
        }

    return asking.between("similarity", pair, options, answer)


def trajectory(pair: Pair, *, batch_size: int, spatial: str, num_resamples: int) -> Question:
    """Kernel alignment of each layer of a run with the same layer of another, by step.

    The first run is taken at all its checkpoints, the second after its last step.
    """
    options = _alignment_options(batch_size, spatial, num_resamples)

    def answer() -> dict[str, Any]:
        steps = checkpoints.steps(pair.a.workdir)
        found = [_aligned(pair, asking.params(pair.a, step), options) for step in steps]
        first = found[0]
        layers = [name for name in first.layers_x if name in first.layers_y]
        rows, columns = (
            [names.index(name) for name in layers] for names in (first.layers_x, first.layers_y)
        )
        by_step = {
            name: np.stack([np.asarray(getattr(each, name))[rows, columns] for each in found])
            for name in EVIDENCE
        }
        counts = {"count": first.num_examples, "num_left_out": first.num_left_out}
        return {"step": list(steps), "layers": layers, **by_step, **counts}

    asked = asking.between("similarity_trajectory", pair, options, answer)
    by_step = {"checkpoints": asking.identities_by_step(pair.a)}
    return asked._replace(data={**asked.data, **by_step})


def _alignment_options(batch_size: int, spatial: str, num_resamples: int) -> dict[str, Any]:
    return {
        "batch_size": batch_size,
        "spatial": spatial,
        "num_resamples": num_resamples,
        "confidence": CONFIDENCE,
    }


def _aligned(pair: Pair, params: Params, options: Mapping[str, Any]) -> cka_matrix.CkaResult:
    """The first run, with these weights, and the second; the same resamples for every pair."""
    return cka_matrix.cka_matrix(
        linen.features(make_module(pair.a.spec)),
        params,
        linen.features(make_module(pair.b.spec)),
        asking.params(pair.b),
        asking.stream(pair.a, batch_size=options["batch_size"]),
        spatial=options["spatial"],
        num_resamples=options["num_resamples"],
        key=jax.random.key(0),
        confidence=options["confidence"],
    )


def distance(pair: Pair) -> Question:
    """Distances in parameter space by module and in total.

    They are of weights, not of batch statistics. The totals leave the head out: that of P is for
    another task than that of its partner. Where batch normalisation takes the scale of weights
    away, they are also given with those at length 1.
    """

    def answer() -> dict[str, Any]:
        a, b = asking.weights(pair.a), asking.weights(pair.b)
        by_name = partition.by_depth(a, 1)
        every = list(make_module(pair.a.spec).module_names)
        body = [name for name in every if name != HEAD]
        shared = body if "P" in (pair.a.kind, pair.b.kind) else every
        by_module = distances.by_module(a, b, by_name, modules=shared)
        total = distances.by_module(a, b, by_name, modules=body)
        scaled = movement.scale_invariant_leaves(
            asking.apply_fn(pair.a),
            asking.params(pair.a),
            next(iter(asking.stream(pair.a)()))["inputs"],
        )
        unit_a, unit_b = (
            {"params": movement.normalised(asking.params(run), scaled)["params"]} for run in pair
        )
        unit = distances.by_module(unit_a, unit_b, by_name, modules=body)
        return {
            "modules": list(by_module.modules),
            "l2": by_module.l2,
            "relative": by_module.relative,
            "cosine": by_module.cosine,
            "total_l2": total.total_l2,
            "total_sum_of_tensor_norms": total.total_sum_of_tensor_norms,
            "total_l2_normalised": unit.total_l2 if scaled else np.nan,
            "num_scale_invariant": len(scaled),
        }

    return asking.between("distances", pair, {"totals_without": [HEAD]}, answer, on_data=False)


def study(spec: StudySpec, runs: Sequence[Run]) -> Question:
    """The study itself: its config, and how long each run took."""

    def answer() -> dict[str, Any]:
        results = [read_result(run.workdir) for run in runs]
        return {
            "run": [run.name for run in runs],
            "seconds": [np.nan if result is None else result.seconds for result in results],
        }

    data = {run.name: asking.identities(run) for run in runs}
    return Question("study", {"name": spec.name}, {"config": spec}, data, answer)
