"""Which test images the models get wrong, together and alone."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tlx.analyses.function import inference, mistakes, predictions
from tlx.records import results
from tlx.studies import keys, trained
from tlx.studies.question import CONFIDENCE, Question, arrays
from tlx.studies.runs import Plan, Run

THRESHOLD = 0.5
"""From which probability on a label is said to be there, with several labels an image."""

SHOWN = 12
"""Images of each kind of mistake in a gallery."""

GALLERY = ("only P-T is wrong", "only RI-T is wrong", "both are wrong")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mistakes(Question):
    """The mistakes of every pair of runs on the target's test images, and images of them."""

    version: ClassVar[int] = 1
    replicates: ClassVar[int] = 1

    def subjects(self, plan: Plan) -> list[list[Run]]:
        """The plain runs of every kind at the rate of their config, P-T first."""
        return [[run for kind in plan.kinds() for run in plan.of_kind(kind)]]

    def key(self, runs: Sequence[Run]) -> keys.Key:
        """Of runs on one target."""
        inputs = {
            "models": [run.name for run in runs],
            "kinds": [run.kind for run in runs],
            "target": runs[0].spec.data.name,
            "split": "test",
        }
        threshold = THRESHOLD if _is_multilabel(runs) else None
        options = {"confidence": CONFIDENCE, "threshold": threshold, "shown": SHOWN}
        return keys.Key(inputs, keys.data_of(runs), options)

    def answer(self, runs: Sequence[Run]) -> results.Mistakes:
        """The mistakes, with a gallery where there are P-T and RI-T."""
        models = [(trained.apply_fn(run), trained.params(run)) for run in runs]
        answers = predictions.collect(models, trained.stream(runs[0]), threshold=THRESHOLD)
        first = [next((i for i, r in enumerate(runs) if r.kind == k), -1) for k in ("P-T", "RI-T")]
        return arrays(
            results.Mistakes,
            models=[run.name for run in runs],
            kinds=[run.kind for run in runs],
            num_classes=trained.num_classes(runs[0]),
            is_multilabel=_is_multilabel(runs),
            **_compared(answers),
            **({} if -1 in first else _gallery(runs, answers, first)),
        )


def _is_multilabel(runs: Sequence[Run]) -> bool:
    return runs[0].spec.loss == "multilabel"


def _compared(answers: predictions.Predictions) -> dict[str, Any]:
    compared = mistakes.compare(answers, confidence=CONFIDENCE)
    sure = mistakes.confidence_of(answers)
    names = (
        "accuracy",
        "cells",
        "cells_by_class",
        "expected_common",
        "expected_common_by_class",
        "disagreement",
        "p_value",
        "p_value_by_class",
    )
    out = {name: np.asarray(getattr(compared, name)) for name in names}
    for name in ("kappa", "capa"):
        estimate = getattr(compared, name)
        out |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    upper = np.triu(np.ones(out["p_value"].shape, bool), 1)
    adjusted = inference.holm(np.where(upper, out["p_value"].astype(np.float64), np.nan))
    return out | {
        "p_holm": np.where(upper, adjusted, adjusted.T),
        "confidence": sure.confidence,
        "margin": sure.margin,
        "num_examples": compared.num_examples,
    }


def _gallery(
    runs: Sequence[Run], answers: predictions.Predictions, pair: Sequence[int]
) -> dict[str, Any]:
    """Images that one of two models or both get wrong, those they are surest of first."""
    p_t, ri_t = pair
    wanted: list[tuple[int, int, mistakes.Which]] = [
        (p_t, ri_t, "only_a"),
        (ri_t, p_t, "only_a"),
        (p_t, ri_t, "common"),
    ]
    every = [mistakes.examples(answers, a, b, which=which) for a, b, which in wanted]
    place, judgement = (np.full((3, SHOWN), fill, np.int32) for fill in (-1, 0))
    for row, (rows, judgements) in enumerate(every):
        number = min(SHOWN, len(rows))
        place[row, :number], judgement[row, :number] = rows[:number], judgements[:number]
    there, at = place >= 0, np.maximum(place, 0)  # in the answers, which lack unreadable images
    index = np.where(there, np.append(answers.numbers, -1)[place], -1).astype(np.int32)
    data = runs[p_t].spec.data
    images = np.zeros((3, SHOWN, data.image_size, data.image_size, data.channels), np.uint8)
    images[there] = trained.images(runs[p_t], index[there].tolist())

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
        "gallery_label": np.asarray(answers.labels)[at, judgement],
        "gallery_answer": of_both(answers.answers),
        "gallery_confidence": of_both(answers.confidence),
    }
