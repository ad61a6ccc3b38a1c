"""Parameter space: distances between weights, their movement, and their spectra.

`distances` between two models, module by module; `movement` along a run, and whether two runs
moved in the same direction; `spectra`, the singular values of each layer.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
