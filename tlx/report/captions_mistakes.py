"""What stands under the figures about mistakes: what is drawn, of which pairs and images."""

from __future__ import annotations

from collections.abc import Sequence

from tlx.records import Record
from tlx.report import measures, measures_mistakes, panels_mistakes
from tlx.report.kinds import pairs_counted
from tlx.report.measures_mistakes import Mistakes

_ORDER = {
    "confidence": ", those first of which the wrong answer is most confident",
    "margin": ", those first whose label is furthest below the answer",
}


def mistakes(records: Sequence[Record]) -> str:
    """Returns the caption of the figure of mistakes."""
    found = measures_mistakes.mistakes(records)
    if found is None:
        return ""
    n = f"n = {found.num_images:,} test images"
    if found.is_multilabel:
        n += f" with {found.num_classes} labels each"
    if found.threshold is not None:
        n += f", on from a probability of {found.threshold:g}"
    pairs = pairs_counted({k: group.num_pairs for k, group in found.groups.items()})
    level = measures.confidence(records, "mistakes")
    return (
        f"Mistakes of two models on {n}, means over the pairs ({pairs}). Bars are what both get "
        "wrong and what only the first or only the second does (of two of a kind, what each does "
        "alone); the line across a bar is what independent errors at the same rates would have in "
        f"common.{_classes(found)} Kappa and CAPA {f'with {level} intervals' if level else ''}; "
        "small ticks are single pairs. The margin is the probability of the label less the "
        "largest other one: where it is below 0 the model is wrong (filled), above 0 right (open)."
    )


def _classes(found: Mistakes) -> str:
    shown, names = (
        len(panels_mistakes.classes(found)),
        "labels" if found.is_multilabel else "classes",
    )
    if shown == found.num_classes:
        return ""
    return f" Of {found.num_classes:,} {names} the {shown} with the most mistakes are shown."


def gallery(records: Sequence[Record]) -> str:
    """Returns the caption of the gallery."""
    found = measures_mistakes.gallery(records)
    if found is None:
        return ""
    p_t, ri_t = found.models
    what = "a label and whether it is on" if found.is_multilabel else "the true class"
    order = _ORDER.get(found.order, "")
    return (
        f"Test images that {p_t}, {ri_t} or both get wrong{order}: {what}, and the "
        "answers of the two models with their probabilities. The pixels are those that the "
        "models get, before normalisation."
    )
