"""What a run loses where one of its modules goes back to an earlier checkpoint."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np

from tlx import checkpoints
from tlx.analyses.function import inference
from tlx.analyses.landscape.modules import rewinding
from tlx.core import metrics, partition
from tlx.core.types import Metric
from tlx.records import results
from tlx.studies import keys, trained
from tlx.studies.question import CONFIDENCE, Question, arrays
from tlx.studies.runs import Plan, Run
from tlx.train.losses import make_loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rewinding(Question):
    """What a run loses on its test images where a module goes back to one of its checkpoints.

    Batch statistics, where a model has any, go back with their module.
    """

    version: ClassVar[int] = 1
    replicates: ClassVar[int] = 1

    def subjects(self, plan: Plan) -> list[Run]:
        """The compared runs of every kind."""
        return plan.each()

    def key(self, run: Run) -> keys.Key:
        """Of one run."""
        return keys.of_run(run, "test", by_step=True, confidence=CONFIDENCE)

    def answer(self, run: Run) -> results.Rewinding:
        """What each module costs at each checkpoint."""
        steps = checkpoints.steps(run.workdir)
        params = trained.params(run)
        rewound = rewinding.rewind(
            trained.apply_fn(run),
            _mean_and_error(run.spec.loss, trained.num_examples(run)),
            params,
            [trained.params(run, step) for step in steps],
            trained.stream(run),
            labels=partition.by_depth(params, 1),
            modules=trained.modules(run),
            statistics="interpolate",
        )
        mean, end = rewound.results["mean"], rewound.trained["mean"]
        low, high = _drop_interval(
            np.asarray(rewound.trained["error"]), np.asarray(rewound.results["error"])
        )
        return arrays(
            results.Rewinding,
            modules=list(rewound.modules),
            step=list(steps),
            accuracy=mean["accuracy"],
            accuracy_drop=rewound.drops["mean"]["accuracy"],
            accuracy_drop_low=low,
            accuracy_drop_high=high,
            loss=mean["loss"],
            trained_accuracy=end["accuracy"],
            trained_loss=end["loss"],
            num_examples=end["count"],
            statistics=rewound.statistics,
        )


@functools.lru_cache(
    maxsize=8
)  # the same object for every run, so that compiled code is found again
def _mean_and_error(loss: str, num_examples: int) -> Metric:
    """The means over the examples, and the error of each."""
    error = metrics.collect(trained.LOSSES[loss]["error"], num_examples)
    return metrics.combine({"mean": make_loss(loss).metric(), "error": error})


def _drop_interval(trained_error: np.ndarray, rewound: np.ndarray) -> np.ndarray:
    """The ends [2, M, T] of the interval over examples of the accuracy lost.

    Of the errors [N] of the trained model and [M, T, N] of those with a module set back.
    """
    seen = np.isfinite(trained_error)
    before = trained_error[seen]
    is_share = bool(np.any((before != 0) & (before != 1)))  # of several labels
    ends = []
    for after in rewound[..., seen].reshape(-1, int(seen.sum())):
        compared = (
            inference.difference(after, before, paired=True, confidence=CONFIDENCE)
            if is_share
            else inference.difference_of_examples(after, before, confidence=CONFIDENCE)
        )
        ends.append((compared.low, compared.high))
    return np.moveaxis(np.reshape(ends, (*rewound.shape[:-1], 2)), -1, 0)
