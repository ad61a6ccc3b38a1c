"""What a caption says of the runs along an axis."""

from collections.abc import Sequence

from tlx.report.read.sweeps import Sweep
from tlx.report.words.numbers import level


def runs_counted(found: Sweep) -> str:
    """How many runs and images there are, e.g. `"3 P-T and 3 RI-T runs each, n = 100"`."""
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


def whiskers_said(found: Sweep) -> str:
    """Over what the intervals of the means are."""
    known = [found.final_of(k, i).interval for k in found.kinds for i in range(len(found.values))]
    if not any(known):
        return "No intervals: one run each."
    of = level(found.confidence)
    return f"Whiskers are {f'{of} ' if of else ''}intervals over runs."


def chance_covered(found: Sweep) -> str:
    """What the differences' intervals cover, e.g. `"runs and test images"`; "" for none."""
    covered = dict.fromkeys(c for c in found.chance if "seeds" in c)
    return " or ".join(covered).replace("seeds", "runs").replace("examples", "test images")


def rate_said(found: Sweep) -> str:
    """How the learning rate of each mean was chosen; nothing where there was one."""
    images = {"valid": "validation images", "test": "the test images themselves"}
    if found.chosen_on not in images or found.rates.shape[1] < 2:
        return ""
    return (
        f" Of {found.rates.shape[1]} learning rates each mean is at the one with the highest mean "
        f"accuracy on {images[found.chosen_on]}."
    )
