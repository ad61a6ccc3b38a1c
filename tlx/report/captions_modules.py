"""What stands under the figures of modules: what is drawn, and of how many runs and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlx.records import Record
from tlx.report import measures, measures_modules, panels_criticality
from tlx.report.kinds import pairs_counted
from tlx.report.measures_modules import PATHS, Critical, worded
from tlx.report.numbers import count
from tlx.report.panels_modules import LABELLED


def rewinding(records: Sequence[Record]) -> str:
    """Returns the caption of what is lost where a module is set back."""
    found = measures_modules.rewound(records)
    n = max((f.num_images for f in found.values()), default=0)
    starts = " or ".join(f"{s:,}" for s in sorted({int(f.step[0]) for f in found.values()}))
    below = ""
    if any(len(f.step) > 1 for f in found.values()):
        most = max(len(f.names) for f in found.values())
        named = f"; named are the {LABELLED} with the highest lines" if most > LABELLED else ""
        below = (
            " Below, set back to each checkpoint that was kept, from the last to the first (of the "
            f"first run of a kind; pale is the first module, dark the last{named})."
        )
    return (
        f"What is lost where one module is set back to its weights at step {starts}, the others "
        "as trained, from input to output; of P-T these are the pretrained ones and a new head. "
        f"{_runs(found)}, n = {n:,} test images; whiskers are at most one standard error.{below}"
        + _statistics(records, "rewinding")
    )


def criticality(records: Sequence[Record]) -> str:
    """Returns the caption of the maps of criticality."""
    by_path = {path: measures_modules.critical(records, path) for path in PATHS}
    every = {(k, path): own for path, found in by_path.items() for k, own in found.items()}
    runs = _runs(next((found for found in by_path.values() if found), {}))
    first = ", the first of each drawn" if "means" in runs else ""
    names = {n for own in every.values() for n in own.names}
    chosen = len(panels_criticality.drawn(every))
    some = (
        f" Of {len(names)} modules the first and the {chosen - 1} with the highest values are "
        "drawn."
        if chosen < len(names)
        else ""
    )
    n = max((own.num_images for own in every.values()), default=0)
    draws = max((own.num_draws for own in every.values()), default=0)
    return (
        "0-1 error on the training images where one module is at a place between its start (left) "
        "and its trained weights (right), with Gaussian noise of standard deviation σ on each of "
        "its weights, the others as trained. Columns are drawn equally wide: on the straight way "
        f"they are at equal distances, on the other each is a checkpoint{_steps(every)}. Outlined "
        f"is where the error is at most the trained one{_tolerance(every)}; without an outline it "
        "is so everywhere, or, without a dot, nowhere. The dot is where (distance / σ)² is least, "
        f"which is the criticality μ. {runs}{first}; n = {n:,} "
        f"images, {count(draws, 'draw')} of the noise.{some}" + _statistics(records, "criticality")
    )


def _steps(every: Mapping[Any, Critical]) -> str:
    found = {tuple(own.step) for (_, path), own in every.items() if path != "direct" and own.step}
    each = [f"{', '.join(f'{s:,}' for s in steps)}" for steps in sorted(found)]
    return f" (steps {'; '.join(each)})" if each and max(map(len, found)) <= 12 else ""


def _tolerance(every: Mapping[Any, Critical]) -> str:
    found = {own.tolerance for own in every.values() if np.isfinite(own.tolerance)}
    points = " or ".join(f"{100 * t:g}" for t in sorted(found))
    return f" and {points} points" if points else " and a tolerance"


def movement(records: Sequence[Record]) -> str:
    """Returns the caption of how far the modules moved, and whether two runs moved alike."""
    found, alike = measures_modules.moved(records), measures_modules.alike(records)
    parts = []
    if found:
        parts.append(
            "The distance of each module's trained weights from its start (full), and the length "
            f"of the way there, from checkpoint to checkpoint (pale). {_runs(found)}."
        )
    if alike:
        pairs = pairs_counted({k: own.num_pairs for k, own in alike.items()})
        single = list(
            dict.fromkeys(
                worded(n)
                for own in alike.values()
                for n, is_single in zip(own.names, own.single, strict=True)
                if is_single
            )
        )
        parts.append(
            "The cosine of the movements of two runs: 1 is the same direction in the space of "
            "the module's weights; dotted, what two random directions have, √(1/k) of k weights "
            f"({pairs})."
        )
        if single:
            parts.append(f"Left out, of one weight only: {', '.join(single)}.")
    return " ".join(parts)


def _runs(found: Mapping[str, Any]) -> str:
    runs = " and ".join(count(own.num_runs, f"{kind} run") for kind, own in found.items())
    several = any(own.num_runs > 1 for own in found.values())
    return (runs[:1].upper() + runs[1:]) + (", means" if several else "")


def _statistics(records: Sequence[Record], question: str) -> str:
    rules = measures.statistics(records, question)
    return f" Batch statistics: {', '.join(rules)}." if rules else ""
