"""What completion offers of a module: its own public names, and not what it imports."""

import ast
import inspect
import sys
from collections.abc import Callable


def names(module: str) -> Callable[[], list[str]]:
    """A module's `__dir__`: `__all__` where it has one, else what it defines without underscore.

    `import a as a` counts as defined, as for type checkers.

    Args:
      module: its `__name__`.
    """

    def directory() -> list[str]:
        here = vars(sys.modules[module])
        if "__all__" in here:
            return sorted(here["__all__"])
        imported = set()
        for node in ast.parse(inspect.getsource(sys.modules[module])).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imported |= {
                    alias.asname or alias.name.partition(".")[0]
                    for alias in node.names
                    if alias.asname is None or alias.asname != alias.name
                }
        return sorted(n for n in here if not n.startswith("_") and n not in imported)

    return directory


__dir__ = names(__name__)
