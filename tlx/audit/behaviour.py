"""What two models do on data: answers, the line between them, features, and what modules carry."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from tlx.analyses.features.similarity import cka_matrix
from tlx.analyses.function import mistakes, predictions
from tlx.analyses.landscape import barriers, interpolation
from tlx.analyses.landscape.modules import rewinding
from tlx.analyses.landscape.permutations import alignment
from tlx.audit.models import Model
from tlx.core import batch_statistics, contracts, evaluate, intervals, metrics, tree
from tlx.core import labels as labels_lib
from tlx.core.types import ApplyFn, Labels, Metric, Params, Stream

CONFIDENCE = 0.95
TOLERANCE = 0.02
"""The rise of the error on the line, 2 points, up to which two models share a basin."""

NUM_ALPHAS = 11


class Interval(NamedTuple):
    """A number with its interval over examples."""

    value: float
    low: float
    high: float


class Line(NamedTuple):
    """The line between two models.

    Attributes:
      alphas: float [K]; 0 is a.
      accuracy: float64 [K].
      loss: float64 [K].
      barrier: of the error above the chord.
      verdict: whether they share a basin.
      soup: the accuracy of the mean of the weights less that of the better model.
      statistics: the rule of the batch statistics.
      drift: by how much batch statistics taken anew make a model itself worse or better, the
        larger of both; 0 where none are taken. If its interval is beyond `TOLERANCE` the verdict
        is "open": the line then shows what the examples lack, not what lies between the models.
    """

    alphas: np.ndarray
    accuracy: np.ndarray
    loss: np.ndarray
    barrier: Interval
    verdict: intervals.Verdict
    soup: Interval
    statistics: str
    drift: Interval


class Behaviour(NamedTuple):
    """What two models do on N examples.

    Attributes:
      num_examples: N.
      accuracy: by part, "a", "b" and the parent where it has the same head.
      largest_difference: of an output of a and b, relative to the largest output.
      same_answers: the share of examples with the same answer.
      kappa: Cohen's kappa of being right.
      both_wrong: examples.
      by_chance: of these, expected of independent errors.
      line: between a and b.
      aligned: the line after the units of b were put into the order of a's; None where the
        models have none that can change places.
      same_after_alignment: whether the weights are equal then, up to rounding.
      modules: M labels, of the following.
      dropped: by part, float64 [M], the accuracy lost with one module of the other model (or of
        the parent, where there is one) in its place.
      reference: what is put in its place: "parent", or "the other".
      layers: L names; empty without a feature function.
      cka: by "a and b", "a and parent", "b and parent": float64 [L], debiased.
    """

    num_examples: int
    accuracy: dict[str, Interval]
    largest_difference: float
    same_answers: float
    kappa: Interval
    both_wrong: int
    by_chance: float
    line: Line
    aligned: Line | None
    same_after_alignment: bool
    modules: tuple[str, ...]
    dropped: dict[str, np.ndarray]
    reference: str
    layers: tuple[str, ...]
    cka: dict[str, np.ndarray]

    @property
    def soup_line(self) -> Line:
        """The line on which the better mean of the weights lies."""
        middle = NUM_ALPHAS // 2
        if self.aligned is not None and self.aligned.accuracy[middle] > self.line.accuracy[middle]:
            return self.aligned
        return self.line


def check(models: dict[str, Model], stream: Stream, classes: tuple[str, ...] = ()) -> None:
    """Checks, before any work, that the data fit the models.

    Args:
      models: by part.
      stream: labelled examples.
      classes: names of folders, whose order gave the labels; (): labels are numbers as they are.

    Raises:
      ValueError: in one sentence.
    """
    first = next(iter(stream()))
    for model in models.values():
        assert model.apply_fn is not None
        try:
            outputs = jax.eval_shape(model.apply_fn, model.params, first["inputs"])
        except Exception as error:  # whatever a model raises for inputs that it does not take
            shapes = [list(np.shape(x)) for x in jax.tree.leaves(first["inputs"])]
            raise ValueError(
                f"{model.name} does not take inputs {', '.join(map(str, shapes))}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        try:
            contracts.check_array(outputs, f"the outputs of {model.name}")
        except TypeError as error:
            raise ValueError(str(error)) from error
        if len(outputs.shape) != 2:
            raise ValueError(f"expected logits [B, C] of {model.name}, got {list(outputs.shape)}")
    heads = {p: jax.eval_shape(m.apply_fn, m.params, first["inputs"]).shape[1]  # type: ignore[arg-type]
             for p, m in models.items()}  # fmt: skip
    if heads["a"] != heads["b"]:
        raise ValueError(
            f"expected a and b with heads of the same classes for data, got {heads['a']} and "
            f"{heads['b']}; leave --data out to compare their weights"
        )
    if classes and len(classes) != heads["a"]:
        some = ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
        raise ValueError(
            f"expected a folder for each of the {heads['a']} outputs of {models['a'].name}, since "
            f"their order numbers the labels, got {len(classes)} ({some}); put them beside a "
            "folder train that has all classes, or give an .npz with labels"
        )
    largest = max(int(np.max(batch["labels"], initial=0)) for batch in stream())
    if largest >= heads["a"]:
        raise ValueError(
            f"expected labels in 0 … {heads['a'] - 1}, as the head of {models['a'].name} has "
            f"{heads['a']} outputs, got {largest}; name the data that it was trained on"
        )


def compare(
    models: dict[str, Model],
    stream: Stream,
    num_examples: int,
    labels: Labels,
    modules: tuple[str, ...],
    *,
    tell: Callable[[str], None],
) -> Behaviour:
    """What the models do on the data.

    Args:
      models: "a", "b" and perhaps "parent"; checked by `check`.
      stream: labelled examples.
      num_examples: of the stream.
      labels: the module of each leaf.
      modules: in the order of the result.
      tell: called with what is done next.

    Returns:
      `Behaviour`.
    """
    a, b = models["a"], models["b"]
    apply_fn = a.apply_fn
    assert apply_fn is not None
    first = next(iter(stream()))["inputs"]
    held = batch_statistics.leaves(apply_fn, a.params, first)
    source: Any = stream if held else None
    tell("answers")
    same_head = {part: m for part, m in models.items() if _shapes(m) == _shapes(a)}
    accuracy = {
        part: _share(_errors(apply_fn, m.params, stream, num_examples))
        for part, m in same_head.items()
    }
    both = predictions.collect([(apply_fn, a.params), (apply_fn, b.params)], stream)
    alike = mistakes.compare(both, confidence=CONFIDENCE)
    apart, scale = _apart(apply_fn, a.params, b.params, stream)
    tell("the line between them")
    line = _line(apply_fn, a.params, b.params, stream, num_examples, source)
    aligned, same_after = _aligned(apply_fn, a.params, b.params, stream, num_examples, source, tell)
    tell("one module at a time")
    reference = models.get("parent")
    dropped = {}
    for part, other in (("a", b), ("b", a)):
        from_where = reference or other
        chosen = [m for m in modules if _fits(models[part], from_where, labels, m)]
        found = rewinding.rewind(
            apply_fn,
            metrics.classification(),
            models[part].params,
            [from_where.params],
            stream,
            labels=labels,
            modules=chosen,
            statistics="interpolate" if held else None,
        )
        lost = dict(zip(found.modules, np.asarray(found.drops["accuracy"])[:, 0], strict=True))
        dropped[part] = np.array([lost.get(m, np.nan) for m in modules], np.float64)
    tell("features")
    layers, cka = _features(models, stream)
    kappa = (alike.kappa.value, alike.kappa.low, alike.kappa.high)
    return Behaviour(
        num_examples=num_examples,
        accuracy=accuracy,
        largest_difference=apart / scale if scale else 0.0,
        same_answers=1 - float(alike.disagreement[0, 1]),
        kappa=Interval(*(float(x[0, 1]) for x in kappa)),
        both_wrong=int(alike.cells[0, 1][3]),
        by_chance=float(alike.expected_common[0, 1]),
        line=line,
        aligned=aligned,
        same_after_alignment=same_after,
        modules=modules,
        dropped=dropped,
        reference="parent" if reference else "the other",
        layers=layers,
        cka=cka,
    )


def _shapes(model: Model) -> dict[str, tuple[int, ...]]:
    return {name: np.shape(x) for name, x in tree.named_leaves(model.params).items()}


def _fits(x: Model, y: Model, labels: Labels, module: str) -> bool:
    """Whether a module of y may take the place of that of x."""
    of_x, of_y = (labels_lib.groups(m.params, labels)[module] for m in (x, y))
    return [np.shape(leaf) for leaf in of_x] == [np.shape(leaf) for leaf in of_y]


def _errors(apply_fn: ApplyFn, params: Params, stream: Stream, number: int) -> np.ndarray:
    found = evaluate(apply_fn, metrics.collect(metrics.error, number), params, stream)
    return np.asarray(found, np.float64)


def _share(errors: np.ndarray) -> Interval:
    """The share of right answers with Wilson's interval; unseen examples, NaN, do not count."""
    seen = errors[np.isfinite(errors)]
    if not len(seen):
        return Interval(np.nan, np.nan, np.nan)
    right = np.array([1 - seen.mean()])
    low, high = intervals.wilson(right, len(seen), CONFIDENCE)
    return Interval(float(right[0]), float(low[0]), float(high[0]))


def _mean(values: np.ndarray) -> Interval:
    """The mean with its normal interval over examples; unseen ones, NaN, do not count."""
    seen = values[np.isfinite(values)]
    if not len(seen):
        return Interval(np.nan, np.nan, np.nan)
    half = 1.96 * seen.std() / np.sqrt(len(seen))
    return Interval(float(seen.mean()), float(seen.mean() - half), float(seen.mean() + half))


def _size(x: Interval) -> Interval:
    """The absolute value of a number with its interval."""
    low, high = sorted((abs(x.low), abs(x.high)))
    return Interval(abs(x.value), low if x.low * x.high > 0 else 0.0, high)


def _apart(apply_fn: ApplyFn, a: Params, b: Params, stream: Stream) -> tuple[float, float]:
    """The largest difference of an output, and the largest output."""
    outputs = jax.jit(apply_fn)
    apart = scale = 0.0
    for batch in stream():
        mask = contracts.host_mask(batch)
        one, other = (np.asarray(outputs(x, batch["inputs"]))[mask] for x in (a, b))
        if one.size:
            apart = max(apart, float(np.max(np.abs(one - other))))
            scale = max(scale, float(np.max(np.abs(one))))
    return apart, scale


def _line(
    apply_fn: ApplyFn, a: Params, b: Params, stream: Stream, number: int, source: Any
) -> Line:
    metric = _metric(number)
    alphas = np.linspace(0, 1, NUM_ALPHAS, dtype=np.float32)
    found = interpolation.line(apply_fn, metric, a, b, stream, alphas=alphas, statistics=source)
    errors = np.asarray(found.results["error"], np.float64)
    height = barriers.barrier_interval(
        alphas, found.results["error"], kind="chord", key=jax.random.key(0), confidence=CONFIDENCE
    )
    barrier = Interval(float(height.height), float(height.low), float(height.high))
    ends = zip((a, b), errors[[0, -1]], strict=True) if source else ()
    moved = [_mean(end - _errors(apply_fn, x, stream, number)) for x, end in ends]
    drift = max(map(_size, moved), default=Interval(0.0, 0.0, 0.0))
    best = 0 if np.nanmean(errors[0]) <= np.nanmean(errors[-1]) else -1
    return Line(
        alphas=alphas,
        accuracy=np.asarray(found.results["mean"]["accuracy"], np.float64),
        loss=np.asarray(found.results["mean"]["loss"], np.float64),
        barrier=barrier,
        verdict="open"
        if drift.low > TOLERANCE
        else intervals.verdict(barrier.low, barrier.high, TOLERANCE),
        soup=_mean(errors[best] - errors[NUM_ALPHAS // 2]),
        statistics=found.statistics,
        drift=drift,
    )


@functools.lru_cache(maxsize=4)
def _metric(number: int) -> Metric:
    """One object for every line, so that compiled code is found again."""
    each = metrics.collect(metrics.error, number)
    return metrics.combine({"mean": metrics.classification(), "error": each})


def _aligned(
    apply_fn: ApplyFn,
    a: Params,
    b: Params,
    stream: Stream,
    number: int,
    source: Any,
    tell: Callable[[str], None],
) -> tuple[Line | None, bool]:
    """The line with the units of b in the order of a's, and whether the weights are equal then."""
    try:
        symmetry = alignment.symmetry(apply_fn, a, next(iter(stream()))["inputs"])
    except ValueError:
        return None, False  # no unit of which it is known that it can change its place
    matched = alignment.weight_matching(symmetry, a, b)
    if all(np.array_equal(p, np.broadcast_to(np.arange(np.shape(p)[-1]), np.shape(p)))
           for p in matched.permutations.values()):  # fmt: skip
        return None, False  # they are in order already
    tell("the line with their units in one order")
    moved = alignment.apply_permutation(symmetry, matched.permutations, b)
    after = float(matched.distance_after) < 1e-5 * float(matched.distance_before)
    return _line(apply_fn, a, moved, stream, number, source), after


def _features(models: dict[str, Model], stream: Stream) -> tuple[tuple[str, ...], dict[str, Any]]:
    """CKA of the same layer of each pair, of the layers that all have."""
    feature_fn = models["a"].feature_fn
    if feature_fn is None:
        return (), {}
    pairs = {"a and b": ("a", "b")}
    if "parent" in models:
        pairs |= {"a and parent": ("a", "parent"), "b and parent": ("b", "parent")}
    layers: tuple[str, ...] = ()
    found = {}
    for name, (x, y) in pairs.items():
        one, other = models[x], models[y]
        assert one.feature_fn is not None
        assert other.feature_fn is not None
        cka = cka_matrix.cka_matrix(
            one.feature_fn, one.params, other.feature_fn, other.params, stream, spatial="pool"
        )
        layers = cka.layers_x
        found[name] = np.diag(np.asarray(cka.debiased, np.float64))
    return layers, found
