"""Mistakes, in common and apart, by kind of pair; and which images."""

from itertools import permutations, product
from typing import NamedTuple

import numpy as np

from tlx.records import Record
from tlx.report.read.selection import Records, option, usable
from tlx.report.read.values import whole
from tlx.report.words.kinds import Pair, pair_name
from tlx.report.words.numbers import Estimate, mean
from tlx.report.words.verdicts import MIXED, P_T, RI_T

PAIRS = (P_T, MIXED, RI_T)
"""The kinds of pair, in the order in which they stand."""

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
      kappa, capa: with the mean of the intervals' ends.
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
    kinds = [str(k) for k in record.results["kinds"]]
    every = {k: found for k in PAIRS if (found := _pairs(kinds, k))}
    names = [str(name) for name in record.results["models"]]
    cells = np.asarray(record.results["cells"])
    return Mistakes(
        {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        {k: _group(record, pair_name(k), found) for k, found in every.items()},
        {
            k: [_group(record, f"{names[a]} & {names[b]}", [(a, b)]) for a, b in found
                if k[0] != k[1] or a < b]
            for k, found in every.items()
        },
        whole(record, "count"),
        int(cells[0, 0].sum()),
        np.shape(record.results["cells_by_class"])[2],
        _is_multilabel(record),
        value if isinstance(value := option(record, "threshold"), float) else None,
    )  # fmt: skip


def _record(records: Records) -> Record | None:
    found = [r for r in usable(records, "mistakes") if len(r.results["models"])]
    test = [r for r in found if str(r.inputs.get("split", "test")) == "test"]
    return next(iter(test or found), None)


def _pairs(kinds: list[str], wanted: Pair) -> list[tuple[int, int]]:
    """The pairs of a kind, those of models of one kind in both orders."""
    one, other = ([i for i, kind in enumerate(kinds) if kind == k] for k in wanted)
    return list(permutations(one, 2) if wanted[0] == wanted[1] else product(one, other))


def _group(record: Record, name: str, pairs: list[tuple[int, int]]) -> Group:
    a, b = np.transpose(pairs)

    def values(field: str) -> np.ndarray:
        found = np.asarray(record.results.get(field, np.nan), np.float64)
        return found[a, b] if found.ndim else np.full(len(a), np.nan)

    def estimate(field: str) -> Estimate:
        n = whole(record, "count")
        ends = zip(values(f"{field}_low").tolist(), values(f"{field}_high").tolist(), strict=True)
        return mean(
            [
                Estimate(value, n=n, interval=end if np.isfinite(end).all() else None)
                for value, end in zip(values(field).tolist(), ends, strict=True)
            ]
        )

    cells, by_class = values("cells"), values("cells_by_class")
    chance = values("expected_common_by_class").mean(0)
    return Group(
        name,
        cells.mean(0),
        by_class.mean(0),
        float(values("expected_common").mean()),
        np.broadcast_to(chance, by_class.shape[1:2]),
        estimate("kappa"),
        estimate("capa"),
        float(values("disagreement").mean()),
        _least(record, "p_value", pairs),
        _least(record, "p_holm", pairs),
        _margin(record, a, b, cells),
        len({frozenset(found) for found in pairs}),
    )


def _margin(record: Record, a: np.ndarray, b: np.ndarray, cells: np.ndarray) -> np.ndarray:
    margin = np.asarray(record.results.get("margin", np.nan), np.float64)
    if not margin.ndim:
        return np.full((2, 4), np.nan)
    each = np.stack([margin[a, b], margin[b, a][:, _EXCHANGED]])
    total = np.where(cells > 0, cells * each, 0).sum(1)
    return np.divide(total, cells.sum(0), out=np.full((2, 4), np.nan), where=cells.sum(0) > 0)


def _least(record: Record, field: str, pairs: list[tuple[int, int]]) -> float:
    """The least value of the pairs, which may stand for (a, b) or for (b, a)."""
    found = np.asarray(record.results.get(field, np.nan), np.float64)
    known = [v for a, b in pairs for v in (found[a, b], found[b, a])] if found.ndim else []
    return min((float(v) for v in known if np.isfinite(v)), default=float("nan"))


def _is_multilabel(record: Record) -> bool:
    return bool(np.asarray(record.results.get("is_multilabel", False)))


def gallery(records: Records) -> Gallery | None:
    """The images that a P-T, an RI-T or both get wrong; None: no data."""
    record = _record(records)
    if record is None or np.size(record.results.get("gallery_models", ())) != 2:
        return None
    found = record.results
    first, second = (str(name) for name in found["gallery_models"])
    rows = {
        str(name): (int(found["gallery_total"][row]), _pictures(record, row))
        for row, name in enumerate(found["gallery_names"])
    }
    order = str(found.get("gallery_order", ""))
    return Gallery((first, second), rows, _is_multilabel(record), order)


def _pictures(record: Record, row: int) -> list[Picture]:
    fields = ("images", "index", "judgement", "label", "answer", "confidence")
    images, index, judgement, label, answer, sure = (
        np.asarray(record.results[f"gallery_{name}"])[row] for name in fields
    )
    return [
        Picture(
            images[i],
            int(index[i]),
            int(judgement[i]),
            int(label[i]),
            (int(answer[i, 0]), int(answer[i, 1])),
            (float(sure[i, 0]), float(sure[i, 1])),
        )
        for i in np.flatnonzero(index >= 0)
    ]
