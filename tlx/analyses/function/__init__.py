"""Function space: what models predict, and whether they differ by more than chance.

`predictions` collects the predictions of models on the same examples; `mistakes` compares their
mistakes (error agreement, Cohen's kappa); `learning` summarises learning curves; `inference`
compares groups of runs, over seeds and examples.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
