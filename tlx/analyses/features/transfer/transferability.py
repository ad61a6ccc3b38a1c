"""Transferability scores: which pretrained model suits a target best, without fine-tuning.

Each score uses the features or the predictions of a pretrained model on examples of the target;
larger predicts better transfer, and scores only rank models on one set of examples.
`rank_correlation` measures how well a score ranks models against accuracies after fine-tuning.
The accuracy of a linear classifier is in `probes`.

All scores are invariant to the order of the examples and to the numbering of the classes, and
those of features to isotropic scaling and orthogonal maps. Classes without examples
do not count. A score is NaN if fewer than two classes have examples, and where features hold NaN
or an infinity.

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
from tlx.core import checks, host, intervals, public, shown, undefined

__dir__ = public.names(__name__)

METRICS = _class_scores.METRICS

Scores = _layer_scores.Scores

scores = _layer_scores.scores

RankCorrelation = _rank_correlation.RankCorrelation

rank_correlation = _rank_correlation.rank_correlation


@shown.short
class Accuracy(NamedTuple):
    """A share of examples, 0 … 1, with its Wilson interval; NaN where it is undefined."""

    accuracy: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]


@host.only
def log_me(features: Any, labels: Any, *, num_classes: int) -> Float[Array, ""]:
    """The log evidence per example of a Bayesian linear model of the classes, at its maximum.

    For each class that has examples its indicator y [N] is modelled as y ~ N(Fw, β⁻¹I) with
    w ~ N(0, α⁻¹I), without an intercept. LogME is the maximum over α and β > 0 of
    log p(y | F, α, β) / N, averaged over those classes: the global maximum, with β in closed form
    and α/β by a search. The published iteration stops before a maximum, and if there are several,
    the one it approaches depends on the scale of the features.

    Args:
      features: real [N, ...], flattened to [N, D].
      labels: int [N], 0 … C−1.
      num_classes: C.

    Returns:
      Scalar, nats per example; any real number, −½(log(2πe·n_c/N)) averaged where features
      explain nothing (such as zeros). ∞ where fewer than N dimensions reproduce an indicator
      exactly: the evidence is unbounded. NaN: see the module's text. Not invariant to
      translation.

    Raises:
      ValueError: for shapes that do not match or labels outside of 0 … C−1.
      TypeError: for labels that are not integers, or complex features.

    Numerics: float64 on the host. Directions are left out in which features vary by no more
      than the rounding of their dtype. α/β is accurate to 1e-7, the evidence to rounding.
    Cost: 6·N·D·m + 20·m³ flops for the decomposition, m = min(N, D), and for each class 4·N·m
      and some 10³·m; a few times N·D float64.

    >>> import numpy as np
    >>> from tlx.analyses import features
    >>> classes = np.arange(40) % 2
    >>> scale = np.where(np.arange(40) % 4 < 2, 0.9, 1.1)[:, None]
    >>> good, nothing = scale * np.eye(2)[classes], np.zeros((40, 2))
    >>> [round(float(features.log_me(x, classes, num_classes=2)), 1) for x in (good, nothing)]
    [1.0, -1.1]
    """
    return _array(_class_scores.log_me(_class_scores.examples(features, labels, num_classes)))


@host.only
def h_score(
    features: Any,
    labels: Any,
    *,
    num_classes: int,
    shrinkage: Literal["ledoit_wolf"] | None = None,
) -> Float[Array, ""]:
    """The H-score: how much of the features' variance lies between classes, directions whitened.

    H = tr(Σ⁺ Σ_b) with Σ the covariance of the features and Σ_b that of their class means, one for
    each example; both divided by N. With "ledoit_wolf" H_λ = tr(Σ_λ⁻¹ (1−λ)Σ_b), Σ_λ = (1−λ)Σ +
    λ·(tr Σ/D)·I, λ = min(b, d)/d with d = ‖Σ − (tr Σ/D)I‖² and b = Σ_i ‖x_i x_iᵀ − Σ‖²/N² of
    centred x; λ = 0 where d = 0.

    Args:
      features: real [N, ...], flattened to [N, D].
      labels: int [N], 0 … C−1.
      num_classes: C.
      shrinkage: of the covariance: None, or "ledoit_wolf", which the score needs unless N
        is many times D.

    Returns:
      Scalar, 0 … C'−1 with C' the classes that have examples. 0 where the features, or their
      class means, are constant. N − 1 dimensions or more in general position give C'−1
      for any labels. NaN: see the module's text. The plain score is invariant to invertible
      affine maps, the shrunk one to translation, orthogonal maps and isotropic scaling.

    Raises:
      ValueError: for shapes that do not match, labels outside of 0 … C−1 or an unknown
        shrinkage.
      TypeError: for labels that are not integers, or complex features.

    Numerics: from the decomposition of the centred features, float64 on the host. The
      pseudoinverse leaves out directions with a singular value below eps·(√N + √D)·max|x|,
      eps that of the features' dtype: rounding alone can cause those.
    Cost: as `log_me`.

    >>> import numpy as np
    >>> from tlx.analyses import features
    >>> classes = np.arange(12) % 3
    >>> by_class, by_half = np.eye(3)[classes], np.eye(2)[np.arange(12) // 6]
    >>> [round(float(features.h_score(x, classes, num_classes=3)), 3) for x in (by_class, by_half)]
    [2.0, 0.0]
    """
    if shrinkage not in (None, "ledoit_wolf"):
        raise ValueError(checks.unknown("shrinkage", shrinkage, ["ledoit_wolf"]))
    plain, shrunk = _class_scores.h_scores(_class_scores.examples(features, labels, num_classes))
    return _array(plain if shrinkage is None else shrunk)


@host.only
def k_nearest(
    features: Any,
    labels: Any,
    *,
    k: int,
    num_classes: int,
    metric: Metric = "cosine",
    confidence: float = 0.95,
) -> Accuracy:
    """The leave-one-out accuracy of a k-nearest-neighbour classifier.

    Ties are shared: if more examples tie for the last places than there are places, each has an
    equal part of a vote, and if m classes tie in votes, an example of one of them counts 1/m.

    Args:
      features: real [N, ...], flattened to [N, D].
      labels: int [N], 0 … C−1.
      k: at least 1.
      num_classes: C.
      metric: a name in METRICS.
      confidence: of the Wilson interval, between 0 and 1. It treats examples as independent,
        which neighbours of each other are not quite.

    Returns:
      `Accuracy`. NaN for k ≥ N, where all examples coincide (for "cosine": are parallel), for
      "cosine" where one is all zeros, and as in the module's text. "euclidean" is also invariant
      to translation, "cosine" to the length of each example.

    Raises:
      ValueError: for shapes that do not match, labels outside of 0 … C−1, k below 1, an
        unknown metric or a confidence out of range.
      TypeError: for labels or a k that are not integers, or complex features.

    Numerics: float64 on the host; squared distances that differ by less than their rounding
      are ties.
    Cost: 2·N²·D flops, in blocks of a few times 32 MiB; never N² numbers.
    """
    _class_scores.check_neighbors(k, metric, confidence)
    given = _class_scores.examples(features, labels, num_classes)
    share = _class_scores.k_nearest(given, k, metric)
    low, high = intervals.wilson(np.asarray(share), len(given.labels), confidence)
    return Accuracy(_array(share), _array(low), _array(high))


@host.only
def leep(source_probabilities: Any, labels: Any, *, num_classes: int) -> Float[Array, ""]:
    """LEEP: the mean log probability of the labels when a source class z predicts P(y | z).

    LEEP = Σ_i log(Σ_z P(y_i | z) θ_iz)/N with P(y | z) = Σ_{i: y_i = y} θ_iz / Σ_i θ_iz, θ_i
    being the source classifier's probabilities of its Z classes on example i.

    Args:
      source_probabilities: float [N, Z], rows that sum to 1.
      labels: int [N], 0 … C−1.
      num_classes: C.

    Returns:
      Scalar, nats per example, between −H(Y), the entropy of the labels, where θ is the same for
      all examples, and 0. NaN: see the module's text. Invariant to the order of source classes.

    Raises:
      ValueError: for shapes that do not match, labels outside of 0 … C−1, or rows that are not
        probabilities.
      TypeError: for labels that are not integers.

    Numerics: float64 on the host.
    Cost: 2·N·(Z + C) operations.

    >>> import numpy as np
    >>> from tlx.analyses import features
    >>> classes = np.array([0, 0, 1, 1])
    >>> tells_apart, same = np.eye(2)[classes], np.full((4, 2), 0.5)  # P(source class)
    >>> [round(float(features.leep(p, classes, num_classes=2)), 3) for p in (tells_apart, same)]
    [0.0, -0.693]
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
            "expected source probabilities, rows of at least 0 that sum to 1, got others; "
            "take the softmax of logits"
        )
    return _array(_class_scores.leep(source, truth))


@host.only
def nce(source_answers: Any, labels: Any, *, num_classes: int) -> Float[Array, ""]:
    """The negative conditional entropy of the labels given the source's predictions, −H(Y | Z).

    This is `leep` for a source that gives its predicted class the probability 1.

    Args:
      source_answers: int [N], any integers.
      labels: int [N], 0 … C−1.
      num_classes: C.

    Returns:
      Scalar, nats per example, −H(Y) … 0. NaN: see the module's text.

    Raises:
      ValueError: for shapes that do not match or labels outside of 0 … C−1.
      TypeError: for labels or predictions that are not integers.

    Cost: two sorts of N examples, on the host.
    """
    answers, truth = np.asarray(source_answers), _class_scores.checked_labels(labels, num_classes)
    if not np.issubdtype(answers.dtype, np.integer):
        raise TypeError(f"expected source predictions as integers, got dtype {answers.dtype}")
    if answers.shape != truth.shape:
        raise ValueError(
            f"expected a prediction for each label, got shapes {answers.shape} and {truth.shape}"
        )
    return _array(_class_scores.nce(answers, truth))


def _array(value: Any) -> Float[Array, ""]:
    return undefined.array(value)
