"""What all figures look like: matplotlib, its style, and colours."""

import contextlib
import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

INK, PALE = "#444444", "#999999"
_STYLE = Path(__file__).with_name("style.mplstyle")
# Settings that choose a screen, not a look.
_NOT_STYLE = ("backend", "backend_fallback", "interactive", "toolbar", "timezone")


def matplotlib(name: str) -> Any:
    """The module `matplotlib.<name>`; ImportError with the command if it is missing."""
    try:
        return importlib.import_module(f"matplotlib.{name}" if name else "matplotlib")
    except ImportError as error:
        raise ImportError(
            f"figures need matplotlib ({error}): pip install '.[report]' in the clone of tlx"
        ) from error


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Sets the report's style, whatever the user's own settings are, and restores them."""
    with matplotlib("").rc_context(_look()):
        yield


@functools.lru_cache(maxsize=1)
def _look() -> dict[str, Any]:
    chosen = matplotlib("").rc_params_from_file(str(_STYLE), use_default_template=True)
    return {k: v for k, v in chosen.items() if k not in _NOT_STYLE}


# Pale where a model is good, dark where it is bad, without the hues of the kinds of model;
# its lightness falls evenly, so it reads in grey and under the colour deficiencies.
GOOD_TO_BAD = ("#fdfcf7", "#e3dbe4", "#bfafcd", "#9482b3", "#6a5a95", "#453c73", "#241f4a")


def shades(base: str, number: int) -> list[Any]:
    """So many shades of a colour, from pale for the first to dark for the last."""
    mixed = matplotlib("colors").LinearSegmentedColormap.from_list(
        "depth", [_mixed(base, "#ffffff", 0.5), base, _mixed(base, "#000000", 0.55)]
    )
    colours = matplotlib("colors")
    return [colours.to_hex(mixed(i / max(number - 1, 1))) for i in range(number)]


def tints(base: str, number: int) -> list[Any]:
    """So many tints of a colour, from pale for the first to itself for the last."""
    shares = [0.6 * (1 - i / max(number - 1, 1)) for i in range(number)]
    return [matplotlib("colors").to_hex(_mixed(base, "#ffffff", share)) for share in shares]


def _mixed(one: str, other: str, share: float) -> Any:
    to_rgb = matplotlib("colors").to_rgb
    return tuple(
        (1 - share) * a + share * b for a, b in zip(to_rgb(one), to_rgb(other), strict=True)
    )
