"""What stands under each figure: what is drawn, and of how many runs, pairs and images."""

from __future__ import annotations

from collections.abc import Sequence

from tlx.records import Record
from tlx.report import measures, measures_landscape, measures_pairs
from tlx.report.captions_depth import partial_transfer, probes, spectra
from tlx.report.captions_mistakes import gallery, mistakes
from tlx.report.captions_modules import criticality, movement, rewinding
from tlx.report.captions_similarity import (
    similarity,
    similarity_shuffled,
    similarity_trajectory,
)
from tlx.report.captions_starts import amount, domains, starts, transferability
from tlx.report.captions_training import curves, shuffle
from tlx.report.kinds import pairs_counted
from tlx.report.numbers import count


def barrier(records: Sequence[Record]) -> str:
    """Returns the caption of the barrier figure."""
    found = measures_pairs.barriers(records)
    pairs = {k: b.num_pairs for k, b in found.items() if "P" not in k}
    n = max((b.accuracy.n for b in found.values()), default=0)
    return (
        f"Models on the straight line between two, on n = {n:,} test images; a line a pair "
        f"({pairs_counted(pairs)}). Between P-T and RI-T, alpha is 0 at P-T."
        + _brackets(records, "interpolation")
        + _statistics(records, "interpolation")
    )


def landscape(records: Sequence[Record]) -> str:
    """Returns the caption of the planes and the basins."""
    planes = measures_landscape.planes(records)
    basins = measures_landscape.basins(records)
    parts = []
    if planes:
        n = max(p.num_images for p in planes)
        parts.append(
            f"Test loss and accuracy on the plane through three models (n = {n:,} images), pale "
            "where they are good; lengths are distances between parameters, to scale, and dotted "
            "lines are the straight lines between models."
        )
    if basins:
        every = [b for found in basins.values() for b in found]
        pairs = pairs_counted({k: len(found) for k, found in basins.items()})
        parts.append(
            f"{'Below, how' if planes else 'How'} far the loss rises above its mean μ on the line "
            "between two models, by noise of size δ at its ends (solid) and by steps of size δ "
            "beyond them (dashed); the basin's δ is the first at which both have reached 2ε. "
            f"The bands are one standard error over {max(b.num_draws for b in every):,} draws "
            f"(n = {max(b.num_images for b in every):,} images); the first of each kind of pair "
            f"({pairs}); rises far above 2ε are cut off."
        )
    rules = _statistics(records, "plane") or _statistics(records, "basin")
    return " ".join(parts) + _brackets(records, "basin") + rules


def permutation(records: Sequence[Record]) -> str:
    """Returns the caption of the lines between two RI-T with their units matched."""
    found = measures_landscape.permuted(records)
    pairs = count(max((v.num_pairs for v in found), default=0), "pair")
    n = max((v.num_images for v in found), default=0)
    return (
        f"The straight line between two RI-T on n = {n:,} test images, as trained and with the "
        f"hidden units of the second put in the order of the first's; {pairs}. This study's "
        "addition (Ainsworth et al. 2023; Jordan et al. 2023)."
        + _statistics(records, "permutation")
    )


def distances(records: Sequence[Record]) -> str:
    """Returns the caption of the distances."""
    pairs = {k: d.num_pairs for k, d in measures_pairs.distances(records).items()}
    means = f"means over the pairs ({pairs_counted(pairs)})"
    without = sorted(
        {
            str(name)
            for r in measures.usable(records, "distances")
            for name in (r.key.get("options") or {}).get("totals_without", ())
        }
    )
    totals = f" The totals leave out: {', '.join(without)}." if without else ""
    return f"Distances between two models' parameters by module, {means}.{totals}"


def _brackets(records: Sequence[Record], question: str) -> str:
    level = measures.confidence(records, question)
    return f" Brackets: {level} intervals." if level else ""


def _statistics(records: Sequence[Record], question: str) -> str:
    rules = measures.statistics(records, question)
    return f" Batch statistics: {', '.join(rules)}." if rules else ""


CAPTIONS = {
    "curves": curves,
    "shuffle": shuffle,
    "amount": amount,
    "domains": domains,
    "starts": starts,
    "transferability": transferability,
    "barrier": barrier,
    "landscape": landscape,
    "permutation": permutation,
    "similarity": similarity,
    "similarity_shuffled": similarity_shuffled,
    "similarity_trajectory": similarity_trajectory,
    "probes": probes,
    "partial_transfer": partial_transfer,
    "spectra": spectra,
    "rewinding": rewinding,
    "criticality": criticality,
    "movement": movement,
    "distances": distances,
    "mistakes": mistakes,
    "gallery": gallery,
}
