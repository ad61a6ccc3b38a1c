"""Function space: what models answer, and whether they differ by more than chance.

`predictions` collects what models say of the same examples; `mistakes` asks which mistakes they
share; `learning` reads learning curves; `inference` compares groups of runs, by seeds and examples.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
