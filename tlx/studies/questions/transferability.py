"""How well scores of P's checkpoints rank them by what fine-tuning from each gives."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import numpy as np

from tlx.analyses.features.transfer import probes, transferability
from tlx.analyses.function import inference
from tlx.records import results
from tlx.studies import curves, keys, trained
from tlx.studies.question import Question, arrays
from tlx.studies.runs import Plan, Run, SweptRuns

SCORES = ("LogME", "LEEP", "NCE", "H-score", "k nearest neighbours", "linear probe")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transferability(Question):
    """How well scores of P's checkpoints rank them by the accuracy that P-T has from each.

    The scores read the last layer before the logits on the target's training images; a linear
    probe is fitted there, and tested on images held out of training, or on the test images where
    none are.
    """

    version: ClassVar[int] = 1
    weight: ClassVar[float] = 480.0
    replicates: ClassVar[int] = 1

    def subjects(self, plan: Plan) -> list[Plan]:
        """P and the runs from its steps, if there are several; of targets of one class an image."""
        return [plan] if "init_step" in plan.swept and not plan.is_multilabel else []

    def key(self, plan: Plan) -> keys.Key:
        """Of all steps at once."""
        source, swept = plan.source, plan.swept["init_step"]
        target = _target(swept)
        return keys.Key(
            {"axis": "init_step", "target": target.spec.data.name, "split": "train"},
            {value: keys.data_of(runs) for value, runs in swept.cells.items()},
            {"layer": trained.penultimate_layer(source), "probe_split": _probe_split(target)},
        )

    def answer(self, plan: Plan) -> results.Transferability:
        """The scores, and how they rank."""
        source, swept = plan.source, plan.swept["init_step"]
        target = _target(swept)
        table = np.array([_scores(source, int(step), target) for step in swept.cells]).T
        measured = [_final_accuracy(runs) for runs in swept.cells.values()]
        ranks = [
            transferability.rank_correlation(row, measured, key=jax.random.key(0)) for row in table
        ]
        names = ("weighted_tau", "p_weighted_tau", "kendall", "p_kendall")
        by_score = {name: np.array([getattr(rank, name) for rank in ranks]) for name in names}
        return arrays(
            results.Transferability,
            values=list(swept.cells),
            measured=measured,
            scores=list(SCORES),
            score=table,
            **by_score,
            p_holm=inference.holm(by_score["p_weighted_tau"]),
            num_examples=trained.num_readable(target, "train"),
        )


def _scores(source: Run, step: int, target: Run) -> list[float]:
    """In the order of SCORES."""
    model, layer = trained.features(source), trained.penultimate_layer(source)
    classes, params = trained.num_classes(target), trained.params(source, step)
    train = trained.stream(target, "train")
    scores = transferability.scores(
        model, params, train, num_classes=classes, layers=[layer], source_logits="logits"
    )
    probed = probes.linear_probes(
        model,
        params,
        train,
        trained.stream(target, _probe_split(target)),
        num_classes=classes,
        layers=[layer],
    )
    of_layer = (scores.shrunk_h_score, scores.k_nearest, probed.accuracy)
    return [
        float(x) for x in (scores.log_me[0], scores.leep, scores.nce, *(v[0] for v in of_layer))
    ]


def _final_accuracy(runs: Sequence[Run]) -> float:
    """The mean final test accuracy of the runs from a checkpoint, at their chosen rate."""
    by_rate = [[curves.read(run) for run in recipe] for recipe in curves.by_recipe(runs).values()]
    final, valid = (
        np.array([[c.accuracy[split][-1] for c in recipe] for recipe in by_rate])
        for split in ("test", "valid")
    )
    return float(final[curves.chosen_rate(final, valid)].mean())


def _target(swept: SweptRuns) -> Run:
    """A run on the target."""
    return next(iter(swept.cells.values()))[0]


def _probe_split(target: Run) -> str:
    return "valid" if target.spec.data.valid_size else "test"
