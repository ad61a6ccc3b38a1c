"""Panels of learning curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlx.report.draw.panels import Label, Panel, label_ends
from tlx.report.questions.training.numbers import MeanCurves, mean_curves
from tlx.report.read import learning
from tlx.report.read.learning import Curve
from tlx.report.read.selection import Records
from tlx.report.words.kinds import colour
from tlx.report.words.numbers import percent, proportion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES: tuple[object, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.3)), (0, (5, 1.3, 1, 1.3)))
AUC = "mean AUC of the labels"
_SERIES = (
    ("accuracy", "Accuracy on the target's test images", "test_accuracy", "test accuracy, %"),
    ("loss", "Loss on the same images", "test_loss", "test loss, nats"),
    ("training", "Accuracy on the training images", "train_accuracy", "training accuracy, %"),
    ("auc", "Area under the ROC curve, test images", "test_auc", AUC),
)


def training(records: Records) -> list[Panel]:
    """The panels of test accuracy, test loss and training accuracy against the step.

    With a record of the runs taken together, lines are kinds at learning rates and bands their
    intervals over seeds; without, means over the runs and no training accuracy.
    """
    runs = [c for c in learning.curves(records) if c.step.size]
    grouped = mean_curves(records)
    if grouped is not None:
        return _grouped(grouped, runs)
    return [
        Panel(name, title, _runs(runs, field, unit))
        for name, title, field, unit in _SERIES[:2]
        if any(np.isfinite(getattr(c, field)).any() for c in runs)
    ]


def _runs(found: Sequence[Curve], field: str, unit: str) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        scale = 100.0 if field == "test_accuracy" else 1.0
        ends = []
        for kind in dict.fromkeys(c.kind for c in found):
            own = [c for c in found if c.kind == kind]
            values = [scale * np.asarray(getattr(c, field)) for c in own]
            _thin(axes, own, field)
            same = all(np.array_equal(c.step, own[0].step) for c in own)
            middle = np.mean(values, axis=0) if same else values[0]
            if same:
                axes.plot(own[0].step, middle, color=colour(kind))
                if field == "test_accuracy" and own[0].num_test:
                    _band(axes, own[0], middle)
            end = percent(learning.final(found, kind), error=False) if scale > 1 else ""
            ends += _end(own[0].step, middle, f"{kind} {end}".strip(), colour(kind))
        _finish(axes, max(int(c.step[-1]) for c in found), unit)
        label_ends(axes, ends)

    return draw


def _scale(field: str) -> float:
    return 100.0 if field.endswith("accuracy") else 1.0


def _thin(axes: Axes, found: Sequence[Curve], field: str) -> None:
    for c in found:
        value = _scale(field) * np.asarray(getattr(c, field))
        axes.plot(c.step, value, color=colour(c.kind), lw=0.7, alpha=0.55)


def _band(axes: Axes, curve: Curve, middle: np.ndarray) -> None:
    error = 100 * np.array([proportion(p / 100, curve.num_test).error for p in middle])
    axes.fill_between(
        curve.step, middle - error, middle + error, color=colour(curve.kind), alpha=0.18, lw=0
    )


def _end(step: np.ndarray, value: np.ndarray, name: str, hue: str) -> list[Label]:
    known = np.flatnonzero(np.isfinite(value))
    return [Label(float(step[known[-1]]), float(value[known[-1]]), name, hue)] if known.size else []


def _finish(axes: Axes, last: int, unit: str) -> None:
    axes.set_xlabel("training step")
    axes.set_ylabel(unit)
    axes.set_xlim(0, max(1, last))
    if unit.endswith("%"):
        axes.set_ylim(0, 100)
    elif unit == AUC:
        axes.set_ylim(top=1)
    else:
        axes.set_ylim(bottom=0)


def _grouped(found: MeanCurves, runs: Sequence[Curve]) -> list[Panel]:
    panels = []
    for (name, title, field, unit), ends in zip(
        _SERIES, (found.test, found.loss, found.train, found.auc), strict=True
    ):
        if np.isfinite(ends[0]).any():
            names = [_group_name(found, g, is_final=field == "test_accuracy")
                     for g in range(len(found.kinds))]  # fmt: skip
            right = max(0.72, 0.18 + 0.057 * max(map(len, names), default=0))
            draw = _groups(found, runs, field, unit, names)
            panels.append(Panel(name, title, draw, 2.9, (0.5, right, 0.45, 0.35)))
    return panels


def _group_name(found: MeanCurves, group: int, *, is_final: bool) -> str:
    """A group's name at its line's end: the rate where the kind has several."""
    kind = found.kinds[group]
    rate = f" {found.rates[group]:g}" if found.kinds.count(kind) > 1 else ""
    final = found.final_of(group)
    end = f"{': ' if rate else ' '}{percent(final, error=False)}" if final.known else ""
    return f"{kind}{rate}{end if is_final else ''}"


def _groups(
    found: MeanCurves, runs: Sequence[Curve], field: str, unit: str, names: Sequence[str]
) -> Callable[[Axes], None]:
    scale = _scale(field)
    values = {
        "test_accuracy": found.test,
        "test_loss": found.loss,
        "train_accuracy": found.train,
        "test_auc": found.auc,
    }

    def draw(axes: Axes) -> None:
        _thin(axes, runs, field)
        labels = []
        for g, kind in enumerate(found.kinds):
            mean, low, high = scale * values[field][:, g]
            nth = found.kinds[:g].count(kind) % len(_DASHES)
            axes.plot(found.step, mean, color=colour(kind), ls=_DASHES[nth], lw=1.6)
            axes.fill_between(found.step, low, high, color=colour(kind), alpha=0.16, lw=0)
            labels += _end(found.step, mean, names[g], colour(kind))
        last = int(found.step[-1]) if found.step.size else 1
        _finish(axes, last, unit)
        if field == "test_accuracy":
            _chosen(axes, found)
        single = [n for n, seeds in zip(found.kinds, found.seeds, strict=True) if seeds == 1]
        if single:
            whose = (
                ""
                if len(single) == len(found.kinds)
                else f" of {' and '.join(dict.fromkeys(single))}"
            )
            axes.set_xlabel(f"training step (no band{whose}: one run)")
        label_ends(axes, labels)

    return draw


def _chosen(axes: Axes, found: MeanCurves) -> None:
    """Marks the last step (filled), the best on test (hollow), the validation's (diamond)."""
    for g, kind in enumerate(found.kinds):
        hue = colour(kind)
        style: dict[str, Any] = {"ls": "", "color": hue, "zorder": 4, "clip_on": False}
        if np.isfinite(found.final[0, g]):
            axes.plot([found.step[-1]], [100 * found.final[0, g]], marker="o", ms=4.5, **style)
        for step, value, marker, face in (
            (found.best_step[g], found.best[g], "o", "white"),
            (found.selected_step[g], found.selected[g], "D", "white"),
        ):
            if np.isfinite(value).any():
                at = (float(np.nanmean(step)), 100 * float(np.nanmean(value)))
                axes.plot(*([v] for v in at), marker=marker, ms=4.5, mfc=face, mew=1.0, **style)
