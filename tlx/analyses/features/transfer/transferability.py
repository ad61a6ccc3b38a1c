"""Which pretrained model will serve a target best, by scores that need no fine-tuning.

Each score reads the features or the answers of a pretrained model on examples of the target;
larger predicts better, and a score ranks models on one set of examples, no more. How far to
trust one is for `rank_correlation` to say, against what fine-tuning has measured. The accuracy
of a linear classifier is in `probes`.

All scores are invariant to the order of the examples and to the names of the classes, and
those of features to one factor on all of them and to orthogonal maps. Classes without examples
do not enter. A score is NaN where fewer than two classes have examples, since nothing is to be
told apart, and where features hold NaN or an infinity.

References: K. You, Y. Liu, J. Wang, M. Long, LogME: practical assessment of pre-trained models
for transfer learning, 2021; C. Nguyen, T. Hassner, M. Seeger, C. Archambeau, LEEP: a new
measure to evaluate transferability of learned representations, 2020; A. Tran, C. Nguyen,
T. Hassner, Transferability and hardness of supervised classification tasks, 2019; Y. Bao et
al., An information-theoretic approach to transferability in task transfer learning, 2019;
S. Ibrahim, N. Ponomareva, R. Mazumder, Newer is not always better: rethinking transferability
metrics, their peculiarities, stability and performance, 2022; O. Ledoit, M. Wolf, A
well-conditioned estimator for large-dimensional covariance matrices, 2004.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.features.transfer import _class_scores, _layer_scores, _rank_correlation
from tlx.analyses.features.transfer._class_scores import Metric
from tlx.core import checks, intervals, undefined

METRICS = _class_scores.METRICS

Scores = _layer_scores.Scores

scores = _layer_scores.scores

RankCorrelation = _rank_correlation.RankCorrelation

rank_correlation = _rank_correlation.rank_correlation


class Accuracy(NamedTuple):
    """A share of examples, 0 … 1, with Wilson's interval of it; NaN where it is undefined."""

    accuracy: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]


def log_me(features: Any, labels: Any, *, num_classes: int) -> Float[Array, ""]:
    """The log evidence per example of a Bayesian linear model of the classes, at its maximum.

    For each class that has examples its indicator y [N] is modelled as y ~ N(Fw, β⁻¹I) with
    w ~ N(0, α⁻¹I), without an intercept. LogME is the maximum over α and β > 0 of
    log p(y | F, α, β) / N, averaged over those classes: the global one, with β in closed form
    and α/β by a search. The published iteration stops on its way to a maximum, and where there
    are several, which one it nears depends on the scale of the features.

    Args:
      features: real [N, ...], flattened to [N, D].
      labels: int [N], 0 … C−1.
      num_classes: C.

    Returns:
      Scalar, nats per example; any real number, −½(log(2πe·n_c/N)) averaged where features
      explain nothing (zeros, for one). ∞ where fewer than N dimensions give an indicator
      exactly: the evidence has no bound. NaN: see the module's text. Not invariant to
      translation.

    Raises:
      ValueError: for shapes that do not match or labels outside of 0 … C−1.
      TypeError: for labels that are not integers, or complex features.

    Numerics: float64 on the host. Directions are left out in which features vary by no more
      than the rounding of their own dtype. α/β is good to 1e-7, the evidence to its rounding.
    Cost: 6·N·D·m + 20·m³ flops for the decomposition, m = min(N, D), and for each class 4·N·m
      and some 10³·m; a few times N·D float64.
    """
    return _array(_class_scores.log_me(_class_scores.examples(features, labels, num_classes)))


def h_score(
    features: Any,
    labels: Any,
    *,
    num_classes: int,
    shrinkage: Literal["ledoit_wolf"] | None = None,
) -> Float[Array, ""]:
    """How much of the features' variance lies between classes, each direction counted alike.

    H = tr(Σ⁺ Σ_b) with Σ the covariance of the features and Σ_b that of their class means, each
    example having its class's; both divided by N. With "ledoit_wolf"
    H_λ = tr(Σ_λ⁻¹ (1−λ)Σ_b), Σ_λ = (1−λ)Σ + λ·(tr Σ/D)·I, λ = min(b, d)/d with
    d = ‖Σ − (tr Σ/D)I‖² and b = Σ_i ‖x_i x_iᵀ − Σ‖²/N² of centred x; λ = 0 where d = 0.

    Args:
      features: real [N, ...], flattened to [N, D].
      labels: int [N], 0 … C−1.
      num_classes: C.
      shrinkage: of the covariance: None, or Ledoit and Wolf's, which the score needs unless N
        is many times D.

    Returns:
      Scalar, 0 … C'−1 with C' the classes that have examples. 0 where the features, or their
      class means, are constant. N − 1 dimensions or more in general position give C'−1
      whatever the labels. NaN: see the module's text. The plain score is invariant to
      invertible affine maps, the shrunk one to translation, orthogonal maps and one factor.

    Raises:
      ValueError: for shapes that do not match, labels outside of 0 … C−1 or an unknown
        shrinkage.
      TypeError: for labels that are not integers, or complex features.

    Numerics: from the decomposition of the centred features, float64 on the host. The
      pseudoinverse leaves out directions with a singular value below eps·(√N + √D)·max|x|,
      eps that of the features' dtype: what their rounding alone can give.
    Cost: as `log_me`.
    """
    if shrinkage not in (None, "ledoit_wolf"):
        raise ValueError(checks.unknown("shrinkage", shrinkage, ["ledoit_wolf"]))
    plain, shrunk = _class_scores.h_scores(_class_scores.examples(features, labels, num_classes))
    return _array(plain if shrinkage is None else shrunk)


def k_nearest(
    features: Any,
    labels: Any,
    *,
    k: int,
    num_classes: int,
    metric: Metric = "cosine",
    confidence: float = 0.95,
) -> Accuracy:
    """The share of examples whose class is that of most of their k nearest others.

    Ties favour nobody: where more examples tie at the border than there are places for, each
    has the same part of a vote, and where m classes have as many votes, an example of one of
    them counts 1/m.

    Args:
      features: real [N, ...], flattened to [N, D].
      labels: int [N], 0 … C−1.
      k: at least 1.
      num_classes: C.
      metric: a name in METRICS.
      confidence: of Wilson's interval, between 0 and 1. It takes examples as independent,
        which those that are each other's neighbours are not quite.

    Returns:
      `Accuracy`. NaN for k ≥ N, where all examples coincide (for "cosine": are parallel), for
      "cosine" where one is all zeros, and see the module's text. "euclidean" is invariant to
      translation as well, "cosine" to the length of each example.

    Raises:
      ValueError: for shapes that do not match, labels outside of 0 … C−1, k below 1, an
        unknown metric or a confidence out of range.
      TypeError: for labels or a k that are not integers, or complex features.

    Numerics: float64 on the host; squared distances that differ by less than their rounding
      tie.
    Cost: 2·N²·D flops, in blocks of a few times 32 MiB; never N² numbers.
    """
    _class_scores.check_neighbors(k, metric, confidence)
    given = _class_scores.examples(features, labels, num_classes)
    share = _class_scores.k_nearest(given, k, metric)
    low, high = intervals.wilson(np.asarray(share), len(given.labels), confidence)
    return Accuracy(_array(share), _array(low), _array(high))


def leep(source_probabilities: Any, labels: Any, *, num_classes: int) -> Float[Array, ""]:
    """The mean log probability of the labels if a source answer z stands for P(y | z).

    LEEP = Σ_i log(Σ_z P(y_i | z) θ_iz)/N with P(y | z) = Σ_{i: y_i = y} θ_iz / Σ_i θ_iz, θ_i
    being the probabilities that the source's classifier gives its Z classes on example i.

    Args:
      source_probabilities: float [N, Z], rows that sum to 1.
      labels: int [N], 0 … C−1.
      num_classes: C.

    Returns:
      Scalar, nats per example, from −H(Y), the entropy of the labels, where θ is the same for
      all, to 0. NaN: see the module's text. Invariant to the order of source classes.

    Raises:
      ValueError: for shapes that do not match, labels outside of 0 … C−1, or rows that are no
        probabilities.
      TypeError: for labels that are not integers.

    Numerics: float64 on the host.
    Cost: 2·N·(Z + C) operations.
    """
    source = np.asarray(source_probabilities).astype(np.float64)
    truth = _class_scores.checked_labels(labels, num_classes)
    if source.ndim != 2 or len(source) != len(truth):
        raise ValueError(
            "expected source probabilities [N, Z] with a label each, "
            f"got shapes {source.shape} and {truth.shape}"
        )
    if (source < 0).any() or (np.abs(source.sum(1) - 1) > 0.01).any():
        raise ValueError(
            "expected source probabilities, rows from 0 on that sum to 1; "
            "take the softmax of logits"
        )
    return _array(_class_scores.leep(source, truth))


def nce(source_answers: Any, labels: Any, *, num_classes: int) -> Float[Array, ""]:
    """The negative conditional entropy of the labels given the source's answers, −H(Y | Z).

    This is `leep` of a source that gives its answer the probability 1.

    Args:
      source_answers: int [N], any integers.
      labels: int [N], 0 … C−1.
      num_classes: C.

    Returns:
      Scalar, nats per example, −H(Y) … 0. NaN: see the module's text.

    Raises:
      ValueError: for shapes that do not match or labels outside of 0 … C−1.
      TypeError: for labels or answers that are not integers.
    """
    answers, truth = np.asarray(source_answers), _class_scores.checked_labels(labels, num_classes)
    if not np.issubdtype(answers.dtype, np.integer):
        raise TypeError(f"expected source answers as integers, got dtype {answers.dtype}")
    if answers.shape != truth.shape:
        raise ValueError(
            f"expected an answer for each label, got shapes {answers.shape} and {truth.shape}"
        )
    return _array(_class_scores.nce(answers, truth))


def _array(value: Any) -> Float[Array, ""]:
    return undefined.array(value)
