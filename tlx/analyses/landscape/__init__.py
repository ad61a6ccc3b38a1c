"""The loss landscape: the loss on paths between models, around them, and module by module.

`interpolation` (linear interpolation of metrics), `barriers` and `peaks` (loss barriers), `planes`,
`directions`, `trajectories` (a run on its principal plane), `connectivity` (mode connectivity by
trained curves), `basins`, `averaging` (model soups), `curvature`, `sharpness`. `modules` moves one
module at a time: `rewinding`, `criticality`, `pac_bayes`. `permutations` matches the hidden units
of two models: `alignment`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
