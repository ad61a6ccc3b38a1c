"""A grid of images with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tlx.report.draw.look import matplotlib, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 6
SIDE, HEAD = 1.2, 0.22  # inches of an image, and of the line above it
_LONGEST = 20  # letters of a title


def grid(images: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """A figure of images, six a row, each below its title.

    Args:
      images: uint8 [H, W, C], C being 1 or 3; sizes may differ.
      titles: one an image; long ones are cut.

    Raises:
      ValueError: if there are no images, or not as many titles.
    """
    if not len(images) or len(images) != len(titles):
        raise ValueError(
            f"expected images and as many titles, got {len(images)} images and {len(titles)} titles"
        )
    rows = -(-len(images) // COLUMNS)
    with style():
        size = (COLUMNS * SIDE, rows * (SIDE + HEAD))
        made = matplotlib("figure").Figure(figsize=size, layout="constrained")
        for i, axes in enumerate(made.subplots(rows, COLUMNS, squeeze=False).flat):
            axes.axis("off")
            if i < len(images):
                image = images[i][:, :, 0] if images[i].shape[2] == 1 else images[i]
                axes.imshow(image, cmap="gray", vmin=0, vmax=255)
                text = titles[i]
                cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
                axes.set_title(cut, fontsize=7, pad=2)
    return made
