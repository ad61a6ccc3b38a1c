"""Synthetic records of mistakes. Nothing here was measured: wrong is what a draw says."""

import math
from itertools import combinations

import numpy as np

from tests.report.made import record_of

KINDS = ("P-T", "P-T", "RI-T", "RI-T")
NUM = 1_397
WRONG = {"P-T": 0.035, "RI-T": 0.085}
ALIKE = {"P-T": 0.9, "RI-T": 0.7}  # how often a model draws what all of its kind do
ROWS = ("only P-T is wrong", "only RI-T is wrong", "both are wrong")


def mistakes(
    kinds=KINDS, *, num_classes=10, num=NUM, is_multilabel=False, shown=8, pixels=(12, 12, 1)
):
    rng = np.random.default_rng(0)
    labels = rng.integers(2 if is_multilabel else num_classes, size=(num, 1))
    classes, answers = labels, num_classes
    if is_multilabel:
        labels = rng.integers(2, size=(num, num_classes))
        classes, answers = np.broadcast_to(np.arange(num_classes), labels.shape), 2
    wrong = _wrong(rng, kinds, np.linspace(0.4, 1.6, num_classes)[classes])
    other = (labels + rng.integers(1, answers, size=wrong.shape)) % answers
    given = np.where(wrong, other, labels)
    sure = np.where(
        wrong, 0.35 + 0.5 * rng.random(wrong.shape), 0.6 + 0.4 * rng.random(wrong.shape)
    )
    results = _counted(wrong, classes, num_classes)
    results |= _coefficients(results["cells"], is_multilabel)
    results |= {"disagreement": np.mean(given[:, None] != given[None], axis=(2, 3))}
    results |= _how_sure(wrong, sure) | _names(kinds) | {"accuracy": 1 - wrong.mean((1, 2))}
    results |= {"num_classes": num_classes, "num_examples": num, "is_multilabel": is_multilabel}
    if {"P-T", "RI-T"} <= set(kinds):
        first = [kinds.index(kind) for kind in ("P-T", "RI-T")]
        parts = (wrong[first], labels, given[first], sure[first])
        names = results["models"][first]
        results |= {"gallery_models": names} | _gallery(*parts, shown=shown, pixels=pixels)
    inputs = {"models": results["models"], "kinds": kinds, "target": "synthetic digits"}
    inputs["split"] = "test"
    options = {"confidence": 0.95, "threshold": 0.5 if is_multilabel else None}
    return record_of("mistakes", inputs=inputs, options=options, results=results)


def _names(kinds):
    names = [f"{kind} {kinds[:i].count(kind) + 1}" for i, kind in enumerate(kinds)]
    return {"models": np.array(names), "kinds": np.array(kinds)}


def _wrong(rng, kinds, hardness):
    """[M, N, J]: models of a kind often draw the same, and the kinds half of the time too."""
    everyone = rng.random(hardness.shape)
    shared = {}
    for kind in ("P-T", "RI-T"):
        own, takes = rng.random(hardness.shape), rng.random(hardness.shape)
        shared[kind] = np.where(takes < 0.5, everyone, own)
    found = []
    for kind in kinds:
        own, takes = rng.random(hardness.shape), rng.random(hardness.shape)
        drawn = np.where(takes < ALIKE[kind], shared[kind], own)
        found.append(drawn < WRONG[kind] * hardness)
    return np.array(found)


def _counted(wrong, classes, num_classes):
    place = 4 * classes + 2 * wrong[:, None] + wrong[None]
    counts = [np.bincount(x.ravel(), minlength=4 * num_classes) for row in place for x in row]
    by_class = np.reshape(counts, (len(wrong), len(wrong), num_classes, 4)).astype(np.int32)
    cells = by_class.sum(2, dtype=np.int32)
    return {
        "cells": cells,
        "cells_by_class": by_class,
        "expected_common": _expected(cells),
        "expected_common_by_class": _expected(by_class),
    }


def _expected(cells):
    _, only_b, only_a, common = np.moveaxis(cells.astype(float), -1, 0)
    return (only_a + common) * (only_b + common) / np.maximum(cells.sum(-1), 1)


def _coefficients(cells, is_multilabel):
    """Kappa from its formula, with made-up intervals, CAPA a little less; McNemar's test."""
    neither, only_b, only_a, common = np.moveaxis(cells / cells.sum(-1, keepdims=True), -1, 0)
    a, b = only_a + common, only_b + common
    chance = a * b + (1 - a) * (1 - b)
    kappa = (neither + common - chance) / (1 - chance)
    found = {"kappa": kappa, "kappa_low": kappa - 0.08, "kappa_high": kappa + 0.07}
    found |= {"capa": kappa - 0.05, "capa_low": kappa - 0.11, "capa_high": kappa}
    p_value = np.array([[_mcnemar(int(x[1]), int(x[2])) for x in row] for row in cells])
    p_holm = np.full(p_value.shape, np.nan)
    every = sorted(combinations(range(len(cells)), 2), key=lambda ab: p_value[ab])
    least = 0.0
    for rank, (i, j) in enumerate(every):
        least = max(least, min(1.0, (len(every) - rank) * p_value[i, j]))
        p_holm[i, j] = p_holm[j, i] = least
    gone = np.nan if is_multilabel else 1.0
    return found | {"p_value": gone * p_value, "p_holm": gone * p_holm}


def _mcnemar(only_b, only_a):
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**n)


def _how_sure(wrong, sure):
    cell = 2 * wrong[:, None].astype(int) + wrong[None]
    margin = np.where(wrong, 0.4 - sure, 2 * sure - 1)
    found = {}
    for name, values in (("confidence", sure), ("margin", margin)):
        sums = [np.where(cell == c, values[:, None], 0).sum((2, 3)) for c in range(4)]
        counts = [(cell == c).sum((2, 3)) for c in range(4)]
        with np.errstate(invalid="ignore"):
            found[name] = np.stack([s / c for s, c in zip(sums, counts, strict=True)], -1)
    return found


def _gallery(wrong, labels, given, sure, *, shown, pixels):
    """Of each row the most confident mistakes; an image is a bright square where its class says."""
    rows = (wrong[0] & ~wrong[1], wrong[1] & ~wrong[0], wrong[0] & wrong[1])
    shape = (len(rows), shown)
    found = {"gallery_images": np.zeros((*shape, *pixels), np.uint8)}
    found |= {"gallery_index": np.full(shape, -1), "gallery_answer": np.zeros((*shape, 2), int)}
    found |= {f"gallery_{name}": np.zeros(shape, int) for name in ("label", "judgement")}
    found["gallery_confidence"] = np.full((*shape, 2), np.nan)
    for r, chosen in enumerate(rows):
        images, judgements = np.nonzero(chosen)
        order = np.argsort(-sure[r % 2][chosen], kind="stable")[:shown]
        for k, (i, j) in enumerate(zip(images[order], judgements[order], strict=True)):
            found["gallery_images"][r, k] = _image(int(labels[i].sum()), i, pixels)
            found["gallery_index"][r, k], found["gallery_judgement"][r, k] = i, j
            found["gallery_label"][r, k] = labels[i, j]
            found["gallery_answer"][r, k] = given[:, i, j]
            found["gallery_confidence"][r, k] = sure[:, i, j]
    totals = [int(chosen.sum()) for chosen in rows]
    names = {"gallery_names": np.array(ROWS), "gallery_order": "confidence"}
    return found | names | {"gallery_total": np.array(totals)}


def _image(what, i, pixels):
    high, wide, channels = pixels
    y, x = np.mgrid[:high, :wide]
    far = np.hypot(y - high * (what % 4 + 0.5) / 4, x - wide * (what // 4 % 4 + 0.5) / 4)
    bright = 230 * np.exp(-((far / (high / 4)) ** 2)) + (7 * x + 13 * y + 5 * i) % 25
    return np.stack([bright * (1 - 0.3 * c) for c in range(channels)], -1).astype(np.uint8)
