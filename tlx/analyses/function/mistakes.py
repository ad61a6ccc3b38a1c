"""Error agreement: which mistakes models have in common, beyond chance, and how confident they are.

Two models fine-tuned from the same pretrained weights share more mistakes than their accuracies
explain; two models trained from scratch share fewer (Neyshabur, Sedghi, Zhang 2020, 3.3).

All functions take the `Predictions` of M models and compare every pair of them, a on the first
axis and b on the second. With several labels an example, each label is a class and each
(example, label) a judgement; else an example is one judgement.
"""

import statistics
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tlx.analyses.function import _chance
from tlx.analyses.function.predictions import Predictions
from tlx.core import checks, host, public, shown, undefined

__dir__ = public.names(__name__)

CELLS: tuple[str, ...] = ("neither", "only_b", "only_a", "common")
"""The outcomes of a judgement by models a and b: the order of every axis of size 4."""

Which = Literal["only_a", "common"]
By = Literal["confidence", "margin"]

WHICH: tuple[Which, ...] = ("only_a", "common")
BY: tuple[By, ...] = ("confidence", "margin")


@shown.short
class Mistakes(NamedTuple):
    """The mistakes of every pair of M models, in C classes and in total.

    Exchanging a and b exchanges the cells `only_a` and `only_b` and nothing else. For a class
    without examples the counts are 0 and the rest is NaN.

    Attributes:
      cells_by_class: int32 [M, M, C, 4], judgements in each of `CELLS`.
      cells: int32 [M, M, 4], over all classes.
      rates_by_class: float [M, M, C, 4], shares of the judgements of the class, 0 … 1.
      rates: float [M, M, 4], shares of all judgements.
      expected_common_by_class: float [M, M, C], the common mistakes expected of independent
        models with the same error rates within the class: n·(1 − p_a)(1 − p_b).
      expected_common: float [M, M], likewise at the error rates over all classes. Their sum by
        class is larger where some classes are hard for both.
      accuracy: float [M], the share of judgements that are right.
      disagreement: float [M, M], the share of judgements with different answers; two wrong
        answers may differ too.
      kappa: Cohen's kappa of being right (error agreement), [M, M].
      kappa_by_class: within each class, [M, M, C].
      capa: agreement of the probabilities beyond chance, [M, M].
      p_value: float [M, M], McNemar's exact test, two-sided, of a and b being right equally
        often; 1 where no judgement is right for only one. NaN with several labels an
        example, whose judgements are not independent: see `p_value_by_class`.
      p_value_by_class: float [M, M, C], within each class.
      mid_p: float [M, M], the same test with mid-p-values, which is less conservative.
      mid_p_by_class: float [M, M, C].
      num_examples: int32 scalar, N.
      confidence: of the intervals.
    """

    cells_by_class: Int[Array, "M M C 4"]
    cells: Int[Array, "M M 4"]
    rates_by_class: Float[Array, "M M C 4"]
    rates: Float[Array, "M M 4"]
    expected_common_by_class: Float[Array, "M M C"]
    expected_common: Float[Array, "M M"]
    accuracy: Float[Array, " M"]
    disagreement: Float[Array, "M M"]
    kappa: _chance.Estimate
    kappa_by_class: _chance.Estimate
    capa: _chance.Estimate
    p_value: Float[Array, "M M"]
    p_value_by_class: Float[Array, "M M C"]
    mid_p: Float[Array, "M M"]
    mid_p_by_class: Float[Array, "M M C"]
    num_examples: Int[Array, ""]
    confidence: float


@host.only
@undefined.allowed
def compare(of: Predictions, *, confidence: float = 0.95) -> Mistakes:
    """The mistakes that each pair of models has in common, compared with chance.

    Both coefficients are (c_obs − c_exp) / (1 − c_exp), and 1 where c_obs is 1, with means over
    judgements and K possible answers:

    - kappa: c_obs the share on which both are right or both wrong, c_exp = p_a·p_b +
      (1 − p_a)(1 − p_b), p the accuracies;
    - CAPA: c_obs the mean of Σₖ p_a(k)·p_b(k), the probability of equal answers drawn from both,
      c_exp = p_a·p_b + (1 − p_a)(1 − p_b)/(K − 1), p the mean probabilities of the label. It
      distinguishes wrong answers. For a model with itself it is 1 only if the model is always sure.

    Args:
      of: of M models; see `predictions.collect`.
      confidence: of the intervals, between 0 and 1.

    Returns:
      `Mistakes`. CAPA is NaN where a probability is.

    Raises:
      ValueError: at call, if confidence is not between 0 and 1.

    Numerics: float64 on the host, from float32 probabilities; p-values below 1e-38 are 0.
      Intervals are the delta method's, over examples (with all their labels together), after
      adding one example of two fully confident models to each of `CELLS`. Without these,
      intervals fail where few common mistakes are expected: at 200 examples, accuracies of 0.95
      and a kappa of 0, the plain ones covered in 39 % of simulations, and so did the percentile
      bootstrap. With them, nominal 95 % intervals of kappa covered in at least 94 % over kappas
      of 0 … 0.95, accuracies of 0.5 … 0.98 and 50 … 1000 examples, 97 % on average; with 5 labels
      an example, equal or independent, in at least 94 % at 100 and 300; and those of CAPA, of 2
      and 10 classes, in at least 94 % at 100 … 1000. So they are slightly too wide. They are
      centred nearer to the middle of the range, and where neither model errs they are
      uninformative. `Estimate.error` is that of these intervals.
    Cost: M²·N·J reads; the intervals hold one pair at a time.

    References: J. Cohen, A coefficient of agreement for nominal scales, 1960; R. Geirhos, K.
    Meding, F. Wichmann, Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and
    humans by measuring error consistency, 2020, equation 1; S. Goel et al., Great models think
    alike and this undermines AI oversight, 2025 (CAPA); Q. McNemar, Note on the sampling error
    of the difference between correlated proportions or percentages, 1947; A. Agresti, B. Coull,
    Approximate is better than "exact" for interval estimation of binomial proportions, 1998
    (added observations).

    >>> import numpy as np
    >>> from tlx.analyses.function import mistakes, predictions
    >>> labels = np.zeros(100, int)
    >>> half, other = np.arange(100) % 2, np.arange(100) // 2 % 2  # each wrong on 50
    >>> models = [np.eye(2)[answers] for answers in (half, half, other)]
    >>> found = mistakes.compare(predictions.from_probabilities(models, labels))
    >>> found.kappa.value[0].round(3).tolist(), found.cells[0, 2].tolist()
    ([1.0, 1.0, 0.0], [25, 25, 25, 25])
    """
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    by_class = _cells(of)
    cells = by_class.sum(2)
    p_value, mid_p = _chance.mcnemar(cells if of.threshold is None else np.zeros_like(cells))
    p_value_by_class, mid_p_by_class = _chance.mcnemar(by_class)
    right, answers = np.asarray(of.right), np.asarray(of.answers)
    apart = [[np.mean(a != b) if a.size else np.nan for b in answers] for a in answers]
    kappa, capa = _over_examples(of, z)
    return Mistakes(
        cells_by_class=jnp.asarray(by_class, jnp.int32),
        cells=jnp.asarray(cells, jnp.int32),
        rates_by_class=_floats(_chance.ratio(by_class, by_class.sum(-1, keepdims=True))),
        rates=_floats(_chance.ratio(cells, cells.sum(-1, keepdims=True))),
        expected_common_by_class=_floats(_expected(by_class)),
        expected_common=_floats(_expected(cells)),
        accuracy=_floats(_chance.ratio(right.sum((1, 2)), np.asarray(right[0].size))),
        disagreement=_floats(apart),
        kappa=jax.tree.map(_floats, kappa),
        kappa_by_class=jax.tree.map(_floats, _chance.estimate(_chance.SURE, by_class, 1, z)),
        capa=jax.tree.map(_floats, capa),
        p_value=_floats(p_value),
        p_value_by_class=_floats(p_value_by_class),
        mid_p=_floats(mid_p),
        mid_p_by_class=_floats(mid_p_by_class),
        num_examples=jnp.asarray(right.shape[1], jnp.int32),
        confidence=confidence,
    )


@shown.short
class Confidence(NamedTuple):
    """The confidence of the models in each cell of every pair of models.

    Entry [a, b] is of model a; for b see [b, a], where `only_a` and `only_b` are exchanged.

    Attributes:
      num: int32 [M, M, 4], judgements in each of `CELLS`.
      confidence: float [M, M, 4], a's mean probability of its answer; NaN without judgements,
        and where a probability is NaN.
      margin: float [M, M, 4], a's mean probability of the label less the largest other one.
    """

    num: Int[Array, "M M 4"]
    confidence: Float[Array, "M M 4"]
    margin: Float[Array, "M M 4"]


@host.only
@undefined.allowed
def confidence_of(of: Predictions) -> Confidence:
    """The confidence of each model where both, only one or neither of a pair is wrong.

    Args:
      of: of M models.

    Returns:
      `Confidence`.

    Cost: about 25·M²·N·J operations on the host, and 13·M²·N·J bytes.

    >>> from tlx.analyses.function import mistakes, predictions
    >>> a = [[1.0, 0.0], [0.25, 0.75], [0.0, 1.0]]
    >>> b = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    >>> found = mistakes.confidence_of(predictions.from_probabilities([a, b], [0, 0, 0]))
    >>> dict(zip(mistakes.CELLS, found.confidence[0, 1].tolist(), strict=True))  # of a
    {'neither': 1.0, 'only_b': nan, 'only_a': 0.75, 'common': 1.0}
    """
    cell = _cell(of)
    values = [np.asarray(x, np.float64)[:, None] for x in (of.confidence, of.margin)]
    is_in = [cell == number for number in range(len(CELLS))]
    num = np.stack([chosen.sum((2, 3)) for chosen in is_in], -1)
    means = [
        _chance.ratio(np.stack([np.where(chosen, x, 0).sum((2, 3)) for chosen in is_in], -1), num)
        for x in values
    ]
    return Confidence(jnp.asarray(num, jnp.int32), *map(_floats, means))


@host.only
@undefined.allowed
def examples(
    of: Predictions, a: int, b: int, *, which: Which = "only_a", by: By = "confidence"
) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
    """The examples, and their labels, that model a gets wrong; the clearest mistakes first.

    Args:
      of: of M models.
      a: the first model, 0 … M−1.
      b: the second.
      which: "only_a", those that only a gets wrong, or "common", those that both get wrong.
      by: "confidence", by the confidence in the wrong answer, highest first; or "margin", by
        the margin of the label, lowest first. Common mistakes are ordered by the mean of both.

    Returns:
      (rows int32 [n], judgements int32 [n]), as from `np.nonzero`: rows are positions in the arrays
      of `of`, 0 … N−1 (`of.numbers[rows]` are the numbers of the examples), judgements labels,
      0 … J−1 (all 0 where an example has one label). Ties are by index, NaN comes last.

    Raises:
      ValueError: at call, for a model out of range, or an unknown `which` or `by`.

    Cost: a read of the judgements of the models, and a sort of those found.

    >>> from tlx.analyses.function import mistakes, predictions
    >>> a = [[0.4, 0.6], [0.9, 0.1], [0.0, 1.0], [0.2, 0.8]]  # wrong on all but the second
    >>> b = [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    >>> rows, _ = mistakes.examples(predictions.from_probabilities([a, b], [0, 0, 0, 0]), 0, 1)
    >>> rows.tolist()  # that only a gets wrong, the most confident first
    [2, 0]
    """
    for name, number in (("a", a), ("b", b)):
        if not 0 <= number < len(of.right):
            raise ValueError(f"expected {name} in 0 … {len(of.right) - 1}, got {number}")
    if which not in WHICH:
        raise ValueError(checks.unknown("which", which, WHICH))
    if by not in BY:
        raise ValueError(checks.unknown("by", by, BY))
    right = np.asarray(of.right)
    rows, judgements = np.nonzero(~right[a] & (right[b] if which == "only_a" else ~right[b]))
    models = [a] if which == "only_a" else [a, b]
    values = np.asarray(of.margin if by == "margin" else -of.confidence)
    order = np.argsort(values[models][:, rows, judgements].mean(0), kind="stable")
    return jnp.asarray(rows[order], jnp.int32), jnp.asarray(judgements[order], jnp.int32)


def _cell(of: Predictions) -> Int[np.ndarray, "M M N J"]:
    """The number in `CELLS` of each judgement."""
    wrong = (~np.asarray(of.right)).astype(np.int8)
    return 2 * wrong[:, None] + wrong[None]


def _cells(of: Predictions) -> Int[np.ndarray, "M M C 4"]:
    num_models, size = len(of.right), 4 * of.num_classes
    place = 4 * np.asarray(of.classes) + _cell(of)
    counts = [np.bincount(x.ravel(), minlength=size) for pairs in place for x in pairs]
    return np.reshape(counts, (num_models, num_models, of.num_classes, 4))


def _over_examples(of: Predictions, z: float) -> tuple[_chance.Estimate, _chance.Estimate]:
    """Kappa and CAPA of all pairs, [M, M], whose rows are the examples' means."""
    right = np.asarray(of.right, np.float64)
    probability = np.asarray(of.probability, np.float64)
    overlap = np.asarray(of.overlap)
    num_models, num_examples = right.shape[:2]
    weights = np.ones(num_examples)
    found = []
    for a in range(num_models):
        for b in range(num_models):
            same = [right[a] == right[b], right[a], right[b]]
            drawn = [overlap[a, b].astype(np.float64), probability[a], probability[b]]
            for parts, rest in ((same, 1.0), (drawn, 1 / (of.num_answers - 1))):
                rows = np.stack([part.mean(-1) for part in parts], -1)
                found.append(_chance.estimate(rows, weights, rest, z))
    tables: np.ndarray = np.reshape(found, (num_models, num_models, 2, 4))
    kappa, capa = (_chance.Estimate(*np.moveaxis(tables[:, :, i], -1, 0)) for i in (0, 1))
    return kappa, capa


def _expected(cells: np.ndarray) -> np.ndarray:
    only_b, only_a, common = np.moveaxis(cells, -1, 0)[1:]
    return _chance.ratio((only_a + common) * (only_b + common), cells.sum(-1))


def _floats(values: object) -> Array:
    return undefined.array(values)
