"""The question of a study which test images its models get wrong, together and alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tlx.analyses.function import inference, mistakes, predictions
from tlx.studies import asking
from tlx.studies.asking import CONFIDENCE, Question
from tlx.studies.plan import Run
from tlx.train.job import make_module

THRESHOLD = 0.5
"""From which probability on a label is said to be there, with several labels an image."""

SHOWN = 12
"""Images of each kind of mistake in a gallery."""

GALLERY = ("only P-T is wrong", "only RI-T is wrong", "both are wrong")


def common(runs: Sequence[Run]) -> Question:
    """The mistakes of every pair of runs on the target's test images, and images of them."""
    is_multilabel = runs[0].spec.loss == "multilabel"

    def answer() -> dict[str, Any]:
        models = [(asking.apply_fn(run), asking.params(run)) for run in runs]
        found = predictions.collect(models, asking.stream(runs[0]), threshold=THRESHOLD)
        out = _compared(found) | {
            "models": [run.name for run in runs],
            "kinds": [run.kind for run in runs],
            "num_classes": make_module(runs[0].spec).num_classes,
            "is_multilabel": is_multilabel,
        }
        first = [next((i for i, r in enumerate(runs) if r.kind == k), -1) for k in ("P-T", "RI-T")]
        return out if -1 in first else out | _gallery(runs, found, first)

    inputs = {
        "models": [run.name for run in runs],
        "kinds": [run.kind for run in runs],
        "target": runs[0].spec.data.name,
        "split": "test",
    }
    threshold = THRESHOLD if is_multilabel else None
    options = {"confidence": CONFIDENCE, "threshold": threshold, "shown": SHOWN}
    return Question("mistakes", inputs, options, asking.data_of(runs), answer)


def _compared(of: predictions.Predictions) -> dict[str, Any]:
    found, sure = mistakes.compare(of, confidence=CONFIDENCE), mistakes.confidence_of(of)
    names = ("accuracy", "cells", "cells_by_class", "expected_common", "expected_common_by_class",
             "disagreement", "p_value", "p_value_by_class")  # fmt: skip
    out = {name: np.asarray(getattr(found, name)) for name in names}
    for name in ("kappa", "capa"):
        own = getattr(found, name)
        out |= {name: own.value, f"{name}_low": own.low, f"{name}_high": own.high}
    upper = np.triu(np.ones(out["p_value"].shape, bool), 1)
    adjusted = inference.holm(np.where(upper, out["p_value"].astype(np.float64), np.nan))
    return out | {
        "p_holm": np.where(upper, adjusted, adjusted.T),
        "confidence": sure.confidence,
        "margin": sure.margin,
        "count": found.num_examples,
    }


def _gallery(
    runs: Sequence[Run], of: predictions.Predictions, pair: Sequence[int]
) -> dict[str, Any]:
    """Images that one of two models or both get wrong, those they are surest of first."""
    p_t, ri_t = pair
    asked: list[tuple[int, int, mistakes.Which]] = [
        (p_t, ri_t, "own"), (ri_t, p_t, "own"), (p_t, ri_t, "common")
    ]  # fmt: skip
    every = [mistakes.examples(of, a, b, which=which) for a, b, which in asked]
    place, judgement = (np.full((3, SHOWN), fill, np.int32) for fill in (-1, 0))
    for row, (rows, judgements) in enumerate(every):
        number = min(SHOWN, len(rows))
        place[row, :number], judgement[row, :number] = rows[:number], judgements[:number]
    there, at = place >= 0, np.maximum(place, 0)  # in the answers, which lack unreadable images
    index = np.where(there, np.append(of.numbers, -1)[place], -1).astype(np.int32)
    data = runs[p_t].spec.data
    images = np.zeros((3, SHOWN, data.image_size, data.image_size, data.channels), np.uint8)
    images[there] = asking.images(runs[p_t], index[there].tolist())

    def of_both(values: Any) -> np.ndarray:
        return np.stack([np.asarray(values)[i][at, judgement] for i in pair], -1)

    return {
        "gallery_models": [runs[i].name for i in pair],
        "gallery_names": list(GALLERY),
        "gallery_order": "confidence",
        "gallery_total": [len(rows) for rows, _ in every],
        "gallery_images": images,
        "gallery_index": index,
        "gallery_judgement": judgement,
        "gallery_label": np.asarray(of.labels)[at, judgement],
        "gallery_answer": of_both(of.answers),
        "gallery_confidence": of_both(of.confidence),
    }
