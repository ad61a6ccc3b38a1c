"""What stands under the figures of similarity: what is drawn, and of how many pairs and images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tlx.records import Record
from tlx.report import measures, measures_similarity
from tlx.report.kinds import pairs_counted
from tlx.report.measures_similarity import LEAST_Z, Layers
from tlx.report.numbers import significant

_SPATIAL = {
    "flatten": "Feature maps are flattened: an image is the vector of all their values.",
    "pool": "Feature maps are averaged over their positions.",
    "positions": "Each position of a feature map is an example.",
}


def similarity(records: Sequence[Record]) -> str:
    """Returns the caption of the similarity figure."""
    found = measures_similarity.layers(records)
    pairs = pairs_counted({k: v.num_pairs for k, v in found.items()})
    several = any(v.num_pairs > 1 for v in found.values())
    band = _band(records, "similarity", found.values())
    if not band and several:
        band = " with the range as a band"
    n = max((v.num_images for v in found.values()), default=0)
    dotted = (
        " The dotted lines are what the biased one gives on average where images are paired at "
        "random."
        if any((v.chance > 0).any() for v in measures_similarity.layers(records, "biased").values())
        else ""
    )
    return (
        "Above, CKA between the same layer of two models"
        f"{', means over the pairs' if several else ''} ({pairs}){band}; n = {n:,} test images."
        f"{dotted} Below, debiased CKA of every layer of the first model (down) with every layer "
        "of the second (across), for the first pair of each kind: white is 0, the full colour 1, "
        "grey below 0, hatched undefined."
        + "".join(f" {_SPATIAL.get(name, name)}" for name in measures_similarity.spatial(records))
        + _chance(found.values())
        + _marks(found.values())
    )


def _band(records: Sequence[Record], question: str, found: Iterable[Layers]) -> str:
    if not any(v.is_interval for v in found):
        return ""
    return f" with {measures.confidence(records, question) or 'confidence'} intervals as bands"


def _chance(found: Iterable[Layers]) -> str:
    """How far above random pairing the least of the values is."""
    known = np.concatenate([v.z[np.isfinite(v.z)] for v in found] or [np.zeros(0)])
    if not known.size or known.min() < LEAST_Z:
        return ""
    return (
        " Every debiased value of a layer with itself lies at least "
        f"{significant(known.min(), 2)} standard deviations (z) above what images paired at "
        "random give."
    )


def _marks(found: Iterable[Layers]) -> str:
    marks = {
        "†: too few images for the number of features.": any(v.too_few.any() for v in found),
        f"‡: not told from images paired at random (z below {LEAST_Z:g}).": any(
            (v.z < LEAST_Z).any() for v in found
        ),
    }
    return "".join(f" {text}" for text, there in marks.items() if there)


def similarity_shuffled(records: Sequence[Record]) -> str:
    """Returns the caption of the similarity on shuffled images."""
    by_shuffle = measures_similarity.shuffled(records)
    every = [v for groups in by_shuffle.values() for v in groups.values()]
    n = max((v.num_images for v in every), default=0)
    return (
        "Debiased CKA between the same layer of two models trained and compared on images whose "
        "blocks are shuffled, by the size of the blocks (dashed, the paler the finer), and on "
        f"whole images (solid){_band(records, 'similarity', every)}; n = {n:,} test images. A "
        "P-T on shuffled images starts from the same P, which was trained on whole ones."
        + _marks(every)
    )


def similarity_trajectory(records: Sequence[Record]) -> str:
    """Returns the caption of the similarity by training step."""
    found = measures_similarity.trajectories(records)
    runs = " and ".join(f"one {kind}" for kinds in found for kind in kinds if kind != "P")
    n = max((v.num_images for v in found.values()), default=0)
    most = max((len(v.names) for v in found.values()), default=0)
    drawn = f"of {most} layers some are drawn" if most > measures_similarity.MOST else "all layers"
    level = measures.confidence(records, "similarity_trajectory")
    band = any(np.isfinite(v.low).any() for v in found.values())
    return (
        f"Debiased CKA of the layers of {runs} with the same layers of the trained P, at the "
        "checkpoints that were kept. Pale is the first layer, dark the last "
        f"({drawn}){f'; bands are {level} intervals' if band and level else ''}; n = {n:,} test "
        "images of the target."
    )
