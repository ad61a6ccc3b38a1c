"""Ways of shuffling in words, and their order."""

import re


def rank(name: str) -> tuple[int, int, str]:
    """A sort key for ways of shuffling: pixels first, then by block size, whole last."""
    size = re.search(r":(\d+)$", name)
    order = {"pixel": 0, "channel_block": 1, "block": 2, "none": 3}
    return order.get(name.split(":")[0], 2), int(size.group(1)) if size else 0, name


def label(name: str) -> str:
    """A short name for a way of shuffling: `"8"` for blocks of 8, `"whole"`."""
    kind, _, size = name.partition(":")
    known = {"none": "whole", "pixel": "pixels", "channel_block": f"{size} ch.", "block": size}
    return known.get(kind, name) or name


def words(name: str) -> str:
    """What a way of shuffling does, for a sentence: `"8×8 blocks shuffled"`."""
    kind, _, size = name.partition(":")
    blocks = f"{size}×{size} blocks shuffled"
    known = {"pixel": "all pixels permuted", "channel_block": f"{blocks} in each channel"}
    return known.get(kind, blocks if size else name)
