"""What stands under the figures about starts and targets: what is drawn, of how many runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tlx.records import Record
from tlx.report import measures, measures_starts, measures_sweeps
from tlx.report.measures_sweeps import Sweep
from tlx.report.numbers import significant


def starts(records: Sequence[Record]) -> str:
    """Returns the caption of the figure of P's checkpoints."""
    found, own = measures_sweeps.sweep(records, "init_step"), measures_starts.checkpoints(records)
    said = []
    if found is not None:
        said.append(
            "P-T by the checkpoint of P that it starts from: test accuracy after the last step, "
            f"and the mean training accuracy over the run ({_runs(found)}). {_whiskers(found)}"
            + _rate(found)
        )
        if measures_starts.as_good(found) not in (None, len(found.values) - 1):
            said.append(
                "The ring is the earliest checkpoint from which on none ends measurably below the "
                f"last; the interval of that difference covers {_chance(found)}."
            )
        if measures.final(measures.curves(records), "RI-T").known:
            said.append("The horizontal line is RI-T.")
    if own is not None:
        shaded = "Shaded: the accuracy of P's checkpoints on the source. " if found else ""
        level = _level(own.confidence)
        band = f", the band its {level} interval" if level else ""
        said.append(
            f"{shaded}The barrier is the largest rise of the 0-1 error above the chord on the "
            f"straight line to P's last checkpoint{band}; "
            "filled marks are in the basin of the last, crosses outside, hollow ones undecided "
            f"(n = {own.num_images:,} test images of the source)."
        )
    return " ".join(said)


def transferability(records: Sequence[Record]) -> str:
    """Returns the caption of the scores."""
    found = measures_starts.transferability(records)
    if found is None:
        return ""
    layer = f" on the features of layer {found.layer}" if found.layer else ""
    return (
        f"Final test accuracy of P-T (means over runs) against scores of the {len(found.values)} "
        f"checkpoints that it starts from, computed{layer} from n = {found.num_images:,} training "
        "images of the target without fine-tuning. Pale is the first checkpoint, dark the last; "
        "τ is the weighted rank correlation, 1 where a score ranks them as fine-tuning does. This "
        "study's addition."
    )


def amount(records: Sequence[Record]) -> str:
    """Returns the caption of the figure by the number of training images."""
    found = measures_sweeps.sweep(records, "train_size")
    if found is None:
        return ""
    return (
        "Test accuracy after the last step, and mean training accuracy over the run, by the number "
        f"of training images of the target ({_runs(found)}). {_whiskers(found)}" + _rate(found)
    )


def domains(records: Sequence[Record]) -> str:
    """Returns the caption of the figure by distance."""
    found, far = measures_sweeps.sweep(records, "target"), measures_starts.domains(records)
    if found is None or far is None:
        return ""
    layer = f", layer {far.layer}" if far.layer else ""
    floor = (
        f" The floor, {significant(far.floor)}, is that of the source's training images to its "
        "test images."
        if math.isfinite(far.floor)
        else ""
    )
    source = f", {far.source}" if far.source else ""
    chance = _chance(found)
    return (
        "What P-T ends above RI-T, and where both end, by target, against the Fréchet distance "
        f"of the target's test images to the source's{source}, in P's features "
        f"({far.num_features:,} features{layer}; n = {far.num_images:,} images each or "
        f"more).{floor} {_runs(found)}. {_whiskers(found)}"
        + (f" Those of the differences cover {chance}." if chance else "")
        + _rate(found)
    )


def _runs(found: Sweep) -> str:
    """How many runs and images there are, e.g. ``"3 P-T and 3 RI-T runs each, n = 100"``."""
    counts = {kind: sorted(set(found.num_seeds[k].tolist())) for k, kind in enumerate(found.kinds)}
    runs = " and ".join(f"{_range(seeds)} {kind}" for kind, seeds in counts.items())
    one = all(seeds == [1] for seeds in counts.values()) and len(counts) == 1
    images = sorted({int(n) for n in found.num_images if n})
    return f"{runs} {'run' if one else 'runs'} each, n = {_range(images)} test images"


def _range(numbers: Sequence[int]) -> str:
    if not numbers:
        return "unknown"
    low, high = numbers[0], numbers[-1]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _whiskers(found: Sweep) -> str:
    known = [found.final_of(k, i).interval for k in found.kinds for i in range(len(found.values))]
    if not any(known):
        return "No intervals: one run each."
    level = _level(found.confidence)
    return f"Whiskers are {f'{level} ' if level else ''}intervals over runs."


def _chance(found: Sweep) -> str:
    """What the differences' intervals cover, e.g. ``"runs and test images"``; "" for none."""
    covered = dict.fromkeys(c for c in found.chance if "seeds" in c)
    return " or ".join(covered).replace("seeds", "runs").replace("examples", "test images")


def _rate(found: Sweep) -> str:
    """How the learning rate of each mean was chosen; nothing where there was one."""
    images = {"valid": "validation images", "test": "the test images themselves"}
    if found.chosen_on not in images or found.rates.shape[1] < 2:
        return ""
    return (
        f" Of {found.rates.shape[1]} learning rates each mean is at the one with the highest mean "
        f"accuracy on {images[found.chosen_on]}."
    )


def _level(confidence: float) -> str:
    return f"{100 * confidence:g}%" if math.isfinite(confidence) else ""
