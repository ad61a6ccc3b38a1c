"""tlx: what is being transferred in transfer learning?

The analyses are pure functions over any pytree of parameters and any apply function, in four
wings: `tlx.function`, `tlx.features`, `tlx.parameters` and `tlx.landscape` (see `tlx.analyses`);
`tlx.core` has what they are written against. A package is loaded when it is first used.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
