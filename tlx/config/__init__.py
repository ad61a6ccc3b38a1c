"""Configs: a Python file with `get_config` becomes frozen dataclasses, checked once.

`load` reads a file, with overrides, and `build` makes a dataclass of it; every problem is reported
at once, before any work. `ml_collections` is known to `files` alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
