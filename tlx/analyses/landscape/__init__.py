"""The loss landscape: the loss on paths between models, around them, and module by module.

`interpolation` (the metrics on a line), `barriers` and `peaks` (how high the loss rises there),
`planes`, `directions`, `trajectories` (a run on its principal plane), `connectivity` (trained
curves of low loss), `basins`, `averaging` (soups, and whether they are safe), `curvature`,
`sharpness`. `modules` moves one module at a time: `rewinding`, `criticality`, `pac_bayes`.
`permutations` brings the hidden units of one model into the order of another's: `alignment`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
