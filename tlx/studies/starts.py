"""The questions of a study about where to start from: P's checkpoints, scores, other targets."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tlx import checkpoints as kept
from tlx.adapters import linen
from tlx.analyses.features.transfer import domains, probes, transferability
from tlx.analyses.function import inference
from tlx.analyses.landscape import barriers, interpolation
from tlx.core import evaluate, intervals
from tlx.studies import asking, curves, sweeps
from tlx.studies.asking import CONFIDENCE, Question
from tlx.studies.plan import Run
from tlx.train.job import make_module

SCORES = ("LogME", "LEEP", "NCE", "H-score", "k nearest neighbours", "linear probe")


def checkpoints(run: Run, steps: Sequence[int], num_alphas: int, tolerance: float) -> Question:
    """How good P was at its checkpoints, and whether they lie in the basin of its last one.

    They do if the 0-1 error on the source's test images rises by no more than the tolerance above
    the chord, on the line to the last one.
    """

    def answer() -> dict[str, Any]:
        found = [_at(run, step) | _to_the_last(run, step, num_alphas) for step in steps]
        decided = [intervals.verdict(x["barrier_low"], x["barrier_high"], tolerance) for x in found]
        return {
            "step": list(steps),
            **{name: np.array([x[name] for x in found]) for name in found[0]},
            "verdict": decided,
            "tolerance": tolerance,
            "count": asking.num_readable(run),
        }

    options = {"num_alphas": num_alphas, "tolerance": tolerance, "confidence": CONFIDENCE}
    data = {
        "examples": asking.examples_of(run),
        "weights": [kept.identity(kept.origin(run.workdir, step)) for step in steps],
    }
    return Question("checkpoints", {"run": run.name, "split": "test"}, options, data, answer)


def _at(run: Run, step: int) -> dict[str, Any]:
    """With the statistics of the checkpoint itself."""
    metric, weights = asking.metric(run), asking.params(run, step)
    found = evaluate(asking.apply_fn(run), metric, weights, asking.stream(run))
    return {name: found[name] for name in ("accuracy", "loss")}


def _to_the_last(run: Run, step: int, num_alphas: int) -> dict[str, Any]:
    alphas = np.linspace(0, 1, num_alphas, dtype=np.float32)
    found = interpolation.line(
        asking.apply_fn(run),
        asking.mean_and_each(
            run.spec.loss, asking.num_examples(run), make_module(run.spec).num_classes
        ),
        asking.params(run, step),
        asking.params(run),
        asking.stream(run),
        alphas=alphas,
        statistics=asking.stream(run, "train"),
    )
    rise = barriers.barrier_interval(
        alphas, found.results["error"], kind="chord", key=jax.random.key(0), confidence=CONFIDENCE
    )
    return {
        "barrier": rise.height,
        "barrier_low": rise.low,
        "barrier_high": rise.high,
    }


def scores(source: Run, starts: sweeps.Cells) -> Question:
    """How well scores of P's checkpoints rank them by what fine-tuning from each gives.

    The scores read the last layer before the logits on the target's training images; a linear
    probe is fitted there, and tested on images held out of training, or on the test images where
    none are.
    """
    target = next(iter(starts.values()))[0]
    steps = [int(value) for value in starts]

    def answer() -> dict[str, Any]:
        table = np.array([_scores(source, step, target) for step in steps]).T
        measured = [_measured(own) for own in starts.values()]
        ranks = [
            transferability.rank_correlation(row, measured, key=jax.random.key(0)) for row in table
        ]
        names = ("weighted_tau", "p_weighted_tau", "kendall", "p_kendall")
        found = {name: np.array([getattr(rank, name) for rank in ranks]) for name in names}
        return {
            "values": list(starts),
            "measured": measured,
            "scores": list(SCORES),
            "score": table,
            **found,
            "p_holm": inference.holm(found["p_weighted_tau"]),
            "count": asking.num_readable(target, "train"),
        }

    inputs = {"axis": "init_step", "target": target.spec.data.name, "split": "train"}
    options = {"layer": _penultimate(source), "probe_split": _probe_split(target)}
    data = {value: asking.data_of(own) for value, own in starts.items()}
    return Question("transferability", inputs, options, data, answer)


def _scores(source: Run, step: int, target: Run) -> list[float]:
    """In the order of SCORES."""
    model, layer = linen.features(make_module(source.spec)), _penultimate(source)
    classes = make_module(target.spec).num_classes
    params, train = asking.params(source, step), asking.stream(target, "train")
    found = transferability.scores(
        model, params, train, num_classes=classes, layers=[layer], source_logits="logits"
    )
    probed = probes.linear_probes(
        model,
        params,
        train,
        asking.stream(target, _probe_split(target)),
        num_classes=classes,
        layers=[layer],
    )
    layered = (found.shrunk_h_score, found.k_nearest, probed.accuracy)
    return [float(x) for x in (found.log_me[0], found.leep, found.nce, *(v[0] for v in layered))]


def _measured(runs: Sequence[Run]) -> float:
    """The mean final test accuracy of the runs from a checkpoint, at their chosen rate."""
    by_rate = [[curves.read(run) for run in own] for own in curves.groups(runs).values()]
    final, valid = (
        np.array([[c.accuracy[split][-1] for c in own] for own in by_rate])
        for split in ("test", "valid")
    )
    return float(final[sweeps.chosen_rate(final, valid)].mean())


def distances(source: Run, targets: Mapping[str, Run]) -> Question:
    """How far targets are from P's source: the Fréchet distance between features of P.

    The same distance between the source's training and test images is the floor, since small
    samples of one domain are not at 0.
    """
    layer = _penultimate(source)

    def answer() -> dict[str, Any]:
        model, params = linen.features(make_module(source.spec)), asking.params(source)

        def to_source(run: Run, split: str) -> Any:
            return domains.distance(
                model, params, asking.stream(source), asking.stream(run, split), layer=layer
            )

        found = [to_source(run, "test") for run in targets.values()]
        return {
            "targets": list(targets),
            "distance": [x.distance for x in found],
            "floor": to_source(source, "train").distance,
            "count": [asking.num_readable(run) for run in targets.values()],
            "num_features": found[0].num_features,
            "source": source.spec.data.name,
        }

    data = asking.data_of([source, *targets.values()])
    data |= {name: asking.examples_of(run) for name, run in targets.items()}
    return Question("domains", {"run": source.name}, {"layer": layer}, data, answer)


def _penultimate(run: Run) -> str:
    """The last layer before the logits."""
    first = next(iter(asking.stream(run)()))["inputs"]
    names = list(jax.eval_shape(linen.features(make_module(run.spec)), asking.params(run), first))
    return str(names[-2])


def _probe_split(target: Run) -> str:
    return "valid" if target.spec.data.valid_size else "test"
