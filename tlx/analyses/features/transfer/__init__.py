"""The value of features for another task, before any fine-tuning; see `tlx.analyses.features`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
