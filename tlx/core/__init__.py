"""What everything else is written against: parameters, streams, metrics, paths.

Two ideas carry the package. *A path is a function from a coordinate to
parameters*: `evaluate_path` evaluates a metric at many coordinates in one pass
over the data, so lines, planes, curves and rewound modules differ only in their
path. *A metric is a monoid of pure functions*: batches fold in any order, on
any device, and several metrics share one pass.
"""

from tlx.core.evaluate import evaluate, evaluate_path
from tlx.core.types import (
    ApplyFn,
    Batch,
    FeatureFn,
    Labels,
    Metric,
    Params,
    PathFn,
    PerExampleFn,
    Stream,
)

__all__ = [
    "ApplyFn",
    "Batch",
    "FeatureFn",
    "Labels",
    "Metric",
    "Params",
    "PathFn",
    "PerExampleFn",
    "Stream",
    "evaluate",
    "evaluate_path",
]
