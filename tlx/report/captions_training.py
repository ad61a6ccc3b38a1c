"""What stands under the figures about runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tlx.records import Record
from tlx.report import measures
from tlx.report.measures_sweeps import Learning, learning, sweep
from tlx.report.numbers import count


def curves(records: Sequence[Record]) -> str:
    """Returns the caption of the learning curves."""
    grouped = learning(records)
    if grouped is not None:
        return _grouped(grouped, bool(measures.curves(records)))
    found = measures.curves(records)
    runs = " and ".join(
        count(sum(c.kind == kind for c in found), f"{kind} run")
        for kind in dict.fromkeys(c.kind for c in found)
    )
    return (
        f"Learning on the target: {runs}. Thin lines are runs, thick lines their means; the "
        f"band is one binomial standard error ({_images(found)})."
    )


def _grouped(found: Learning, has_runs: bool) -> str:
    seeds = sorted(set(found.seeds.tolist()))
    runs = " or ".join(count(n, "run") for n in seeds)
    several = len(set(found.rates[np.isfinite(found.rates)].tolist())) > 1
    parts = [
        f"Learning on the target: means of {runs}"
        + (" at each learning rate, named at the line's end" if several else "")
        + f", n = {found.num_images:,} test images."
    ]
    if seeds and seeds[-1] > 1:
        level = f"{100 * found.confidence:g}% " if math.isfinite(found.confidence) else ""
        parts.append(f"Bands are {level}t intervals of the mean over seeds, step by step.")
    if seeds and seeds[0] == 1:
        parts.append("Of one run there is no band.")
    if has_runs:
        parts.append("Thin lines are the runs at the study's rate.")
    parts.append(
        "Filled circles are the last step, which the page compares; hollow ones the best step on "
        "the test images, which is how the paper picks its “best”, mean over the runs."
    )
    if np.isfinite(found.selected).any():
        optimism = found.optimism[np.isfinite(found.optimism)]
        ends = list(dict.fromkeys(f"{100 * v:.2f}" for v in (optimism.min(), optimism.max())))
        parts.append(
            f"Diamonds are the step chosen on {found.num_valid:,} validation images; the best on "
            f"test lies {' to '.join(ends)} points above it: its optimism."
        )
    else:
        parts.append("There were no validation images to choose a step on.")
    return " ".join(parts)


def shuffle(records: Sequence[Record]) -> str:
    """Returns the caption of the block-shuffling figure."""
    found = sweep(records, "shuffle")
    if found is None:
        return ""
    runs = " or ".join(count(n, "run") for n in sorted(set(found.num_seeds.ravel().tolist())))
    sizes = " or ".join(f"{n:,}" for n in sorted(set(found.num_images.tolist())))
    level = f"{100 * found.confidence:g}% " if math.isfinite(found.confidence) else ""
    covers = [c for c in dict.fromkeys(found.chance) if c]
    parts = [
        "Accuracy where the blocks of an image are shuffled, pale of P-T, solid of RI-T: means "
        f"of {runs} on n = {sizes} test images."
    ]
    if np.isfinite(found.final_mean[1:]).any():
        parts.append(f"Whiskers are {level}t intervals over seeds.")
    if np.isfinite(found.difference[1:]).any() and covers:
        parts.append(
            f"The intervals of the differences and drops in the table cover the chance of "
            f"{' or '.join(covers)}."
        )
    if not np.isfinite(found.final_mean[1:]).any():
        parts.append("Of one run a bar has no interval over seeds.")
    rule = {
        "valid": "Of several learning rates, that with the best validation accuracy is shown.",
        "test": "Of several learning rates, that with the best test accuracy is shown, which "
        "flatters both.",
    }.get(found.chosen_on)
    return " ".join([*parts, *([rule] if rule else [])])


def _images(found: Sequence[measures.Curve]) -> str:
    sizes = sorted({c.num_test for c in found if c.num_test})
    return "n = " + " or ".join(f"{n:,}" for n in sizes) + " test images" if sizes else "n unknown"
