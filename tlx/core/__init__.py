"""What everything else is written against: parameters, streams, metrics, paths.

Two ideas carry the package. *A path is a function from a coordinate to
parameters*: `evaluate_path` evaluates a metric at many coordinates in one pass
over the data, so lines, planes, curves and rewound modules differ only in their
path. *A metric is a monoid of pure functions*: batches fold in any order, on
any device, and several metrics share one pass.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
