"""Mistakes, in common and apart, by kind of pair; and which images."""

from itertools import permutations, product
from typing import NamedTuple

import numpy as np

from tlx.records import Record, results
from tlx.report.read.over_runs import of_pairs
from tlx.report.read.selection import Records, of_kind, of_test
from tlx.report.read.values import estimate, is_known, whole, word, words
from tlx.report.words.kinds import Pair, pair, pair_name
from tlx.report.words.numbers import Estimate
from tlx.report.words.verdicts import MIXED, P_T, RI_T

PAIRS = (P_T, MIXED, RI_T)
"""The kinds of pair that every study can have."""

_SHOWN = (P_T, MIXED, pair("S-T", "S-T"), RI_T)

NEITHER, ONLY_SECOND, ONLY_FIRST, COMMON = range(4)
"""What a judgement is for two models, by who is wrong: the last axis of the records' cells."""

_EXCHANGED = [NEITHER, ONLY_FIRST, ONLY_SECOND, COMMON]


class Group(NamedTuple):
    """The mistakes of one pair of models, or the means over the pairs of a kind.

    Of two models of one kind neither is the first: over a kind, `ONLY_FIRST` and
    `ONLY_SECOND` are then both what one of two gets wrong alone.

    Attributes:
      name: of the models, or of their kinds.
      cells: [4], judgements by who is wrong.
      by_class: [C, 4], the same of each class.
      expected: common mistakes of independent errors at the same rates.
      expected_by_class: [C], the same within each class.
      kappa, capa: with an interval over runs; of too few pairs the mean of the intervals' ends.
      disagreement: the share of judgements with different answers.
      p_value, p_holm: of McNemar's test, the least over the pairs; NaN where there is none.
      margin: [2, 4], of the first and the second model, mean over the judgements of a cell.
      num_pairs: how many the means are over.
    """

    name: str
    cells: np.ndarray
    by_class: np.ndarray
    expected: float
    expected_by_class: np.ndarray
    kappa: Estimate
    capa: Estimate
    disagreement: float
    p_value: float
    p_holm: float
    margin: np.ndarray
    num_pairs: int


class Mistakes(NamedTuple):
    """The mistakes of a study's models, by kind of pair; kinds without a pair are left out.

    Attributes:
      num_models: by kind.
      groups: means over the pairs of a kind.
      pairs: each pair of a kind by itself.
      num_images, num_judgements: those of each pair; with several labels an image, each
        label is a judgement.
      num_classes: as many as the labels, where an image has several.
      threshold: from which probability on a label is answered with "on"; None where an
        image has one label.
    """

    num_models: dict[str, int]
    groups: dict[Pair, Group]
    pairs: dict[Pair, list[Group]]
    num_images: int
    num_judgements: int
    num_classes: int
    is_multilabel: bool
    threshold: float | None

    @property
    def shown(self) -> list[Pair]:
        """The kinds of pair in the order in which they stand: `PAIRS`, and S-T where there is."""
        return [kinds for kinds in _SHOWN if kinds in PAIRS or kinds in self.groups]

    @property
    def missing(self) -> list[Pair]:
        """The kinds of pair of which there is none."""
        return [kinds for kinds in PAIRS if kinds not in self.groups]

    @property
    def unit(self) -> str:
        """What is judged: "images", or each label of each image."""
        return "labels of images" if self.is_multilabel else "images"


class Picture(NamedTuple):
    """An image that a model gets wrong, and what was said of it.

    Attributes:
      pixels: uint8 [H, W, C].
      number: of the image in its split, from 0.
      judgement: which label, with several labels an image.
      label: the true class, or whether the label should be on (1) or off (0).
      answers: of P-T and RI-T, as `label`; -1 for none.
      confidence: of P-T and RI-T, 0 … 1.
    """

    pixels: np.ndarray
    number: int
    judgement: int
    label: int
    answers: tuple[int, int]
    confidence: tuple[float, float]


class Gallery(NamedTuple):
    """Rows of images that a P-T, an RI-T or both get wrong.

    Attributes:
      models: the names of the P-T and the RI-T.
      rows: name of the row -> how many there are, and those that are kept.
      is_multilabel: whether an image has several labels.
      order: by what they are ordered.
    """

    models: tuple[str, str]
    rows: dict[str, tuple[int, list[Picture]]]
    is_multilabel: bool
    order: str


def mistakes(records: Records) -> Mistakes | None:
    """The mistakes of a study's models on test images; None: no data."""
    record = _record(records)
    if record is None:
        return None
    found: results.Mistakes = record.results
    kinds, names = words(found.kinds), words(found.models)
    every = {k: pairs for k in _SHOWN if (pairs := _pairs(kinds, k))}
    threshold = record.options.get("threshold")
    return Mistakes(
        {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        {k: _group(found, pair_name(k), k, pairs) for k, pairs in every.items()},
        {
            k: [_group(found, f"{names[a]} & {names[b]}", k, [(a, b)]) for a, b in pairs
                if k[0] != k[1] or a < b]
            for k, pairs in every.items()
        },
        whole(found.num_examples),
        int(found.cells[0, 0].sum()),
        found.cells_by_class.shape[2],
        _is_multilabel(found),
        threshold if isinstance(threshold, float) else None,
    )  # fmt: skip


def _record(records: Records) -> Record | None:
    needed = ("models", "kinds", "cells", "cells_by_class", "expected_common", "kappa")
    found = of_test([r for r in of_kind(records, "mistakes", *needed) if r.results.models.size])
    return next(iter(found), None)


def _pairs(kinds: list[str], wanted: Pair) -> list[tuple[int, int]]:
    """The pairs of a kind, those of models of one kind in both orders."""
    one, other = ([i for i, kind in enumerate(kinds) if kind == k] for k in wanted)
    return list(permutations(one, 2) if wanted[0] == wanted[1] else product(one, other))


def _group(found: results.Mistakes, name: str, kinds: Pair, pairs: list[tuple[int, int]]) -> Group:
    a, b = np.transpose(pairs)
    once = [i for i, pair in enumerate(pairs) if pair[::-1] not in pairs[:i]]
    runs = [((kinds[0], str(a[i])), (kinds[1], str(b[i]))) for i in once]

    def of(values: np.ndarray) -> np.ndarray:
        return np.asarray(values, np.float64)[a, b] if is_known(values) else np.full(len(a), np.nan)

    def over(value: np.ndarray, low: np.ndarray, high: np.ndarray) -> Estimate:
        n = whole(found.num_examples)
        each = [of(ends)[once] for ends in (value, low, high)]
        return of_pairs(runs, [estimate(*triple, n=n) for triple in zip(*each, strict=True)])

    cells, by_class = of(found.cells), of(found.cells_by_class)
    chance = of(found.expected_common_by_class).mean(0)
    return Group(
        name,
        cells.mean(0),
        by_class.mean(0),
        float(of(found.expected_common).mean()),
        np.broadcast_to(chance, by_class.shape[1:2]),
        over(found.kappa, found.kappa_low, found.kappa_high),
        over(found.capa, found.capa_low, found.capa_high),
        float(of(found.disagreement).mean()),
        _least(found.p_value, pairs),
        _least(found.p_holm, pairs),
        _margin(found.margin, pairs, cells),
        len({frozenset(pair) for pair in pairs}),
    )


def _margin(margin: np.ndarray, pairs: list[tuple[int, int]], cells: np.ndarray) -> np.ndarray:
    if not is_known(margin):
        return np.full((2, 4), np.nan)
    a, b = np.transpose(pairs)
    each = np.stack([margin[a, b], margin[b, a][:, _EXCHANGED]])
    total = np.where(cells > 0, cells * each, 0).sum(1)
    return np.divide(total, cells.sum(0), out=np.full((2, 4), np.nan), where=cells.sum(0) > 0)


def _least(values: np.ndarray, pairs: list[tuple[int, int]]) -> float:
    """The least value of the pairs, which may stand for (a, b) or for (b, a)."""
    known = [v for a, b in pairs for v in (values[a, b], values[b, a])] if is_known(values) else []
    return min((float(v) for v in known if np.isfinite(v)), default=float("nan"))


def _is_multilabel(found: results.Mistakes) -> bool:
    return is_known(found.is_multilabel) and bool(found.is_multilabel)


def gallery(records: Records) -> Gallery | None:
    """The images that a P-T, an RI-T or both get wrong; None: no data."""
    record = _record(records)
    if record is None or record.results.gallery_models.size != 2:
        return None
    found: results.Mistakes = record.results
    first, second = words(found.gallery_models)
    rows = {
        name: (int(found.gallery_total[row]), _pictures(found, row))
        for row, name in enumerate(words(found.gallery_names))
    }
    return Gallery((first, second), rows, _is_multilabel(found), word(found.gallery_order))


def _pictures(found: results.Mistakes, row: int) -> list[Picture]:
    answer, sure = found.gallery_answer[row], found.gallery_confidence[row]
    return [
        Picture(
            found.gallery_images[row, i],
            int(found.gallery_index[row, i]),
            int(found.gallery_judgement[row, i]),
            int(found.gallery_label[row, i]),
            (int(answer[i, 0]), int(answer[i, 1])),
            (float(sure[i, 0]), float(sure[i, 1])),
        )
        for i in np.flatnonzero(found.gallery_index[row] >= 0)
    ]
