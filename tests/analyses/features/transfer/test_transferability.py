import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special, stats

from tlx.analyses.features.transfer import (
    _class_scores,
    _class_spectrum,
    _rank_correlation,
    _votes,
    transferability,
)
from tlx.core import streams

CLASSES = 3
SEEDS = st.integers(0, 99)


def blobs(seed=0, num=40, dim=5, spread=1.0):
    """Overlapping classes, all of them there, in float64 away from the origin."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num) % CLASSES)
    centres = rng.standard_normal((CLASSES, dim))
    return 1 + centres[labels] + spread * rng.standard_normal((num, dim)), labels


def probabilities(seed=0, num=40, sources=5):
    x, labels = blobs(seed, num, sources)
    return special.softmax(2 * x, axis=1), labels


def log_me(x, labels):
    return _class_scores.log_me(_class_scores.examples(x, labels, CLASSES))


def h_scores(x, labels):
    return _class_scores.h_scores(_class_scores.examples(x, labels, CLASSES))


def nearest(x, labels, k=5, metric="euclidean"):
    return _class_scores.k_nearest(_class_scores.examples(x, labels, CLASSES), k, metric)


def entropy(labels):
    share = np.unique(labels, return_counts=True)[1] / len(labels)
    return -(share * np.log(share)).sum()


SCORES = {
    "log_me": lambda x, y, c: transferability.log_me(x, y, num_classes=c),
    "h_score": lambda x, y, c: transferability.h_score(x, y, num_classes=c),
    "shrunk": lambda x, y, c: transferability.h_score(x, y, num_classes=c, shrinkage="ledoit_wolf"),
    "cosine": lambda x, y, c: transferability.k_nearest(x, y, k=5, num_classes=c).accuracy,
    "euclidean": lambda x, y, c: (
        transferability.k_nearest(x, y, k=5, num_classes=c, metric="euclidean").accuracy
    ),
    "leep": lambda x, y, c: transferability.leep(special.softmax(x, 1), y, num_classes=c),
    "nce": lambda x, y, c: transferability.nce(x.argmax(1), y, num_classes=c),
}
every_score = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
OF_FEATURES = {name: SCORES[name] for name in SCORES if name not in ("leep", "nce")}
every_score_of_features = pytest.mark.parametrize("score", OF_FEATURES.values(), ids=OF_FEATURES)


# --- LogME


def log_evidence(logs, x, y):
    """log N(y; 0, I/β + FFᵀ/α) / N at log α and log β, from the covariance itself."""
    alpha, beta = np.exp(logs)
    covariance = np.eye(len(y)) / beta + x @ x.T / alpha
    distance = y @ np.linalg.solve(covariance, y)
    return -(np.linalg.slogdet(2 * np.pi * covariance)[1] + distance) / (2 * len(y))


def most_evidence(x, y):
    starts = itertools.product((-3.0, 4.0), (0.0, 4.0))
    options = {"xatol": 1e-7, "fatol": 1e-13, "maxiter": 2000}
    found = [
        optimize.minimize(
            lambda logs: -log_evidence(logs, x, y),
            start,
            method="Nelder-Mead",
            bounds=[(-25, 25), (-25, 25)],
            options=options,
        )
        for start in starts
    ]
    return -min(result.fun for result in found)


@pytest.mark.parametrize(("num", "dim"), [(24, 3), (12, 12), (12, 30)])
def test_log_me_is_the_maximal_evidence_by_direct_search(num, dim):
    x, labels = blobs(1, num, dim)
    x = x / np.sqrt(dim)
    expected = np.mean([most_evidence(x, (labels == c) * 1.0) for c in range(CLASSES)])
    np.testing.assert_allclose(log_me(x, labels), expected, rtol=1e-8)
    got = transferability.log_me(x, labels, num_classes=CLASSES)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_log_me_is_where_the_published_iteration_goes():
    """α = γ/‖m‖², β = (N − γ)/‖y − Fm‖² until they stay, and the evidence as published."""
    x, labels = blobs(2, 60, 8)
    n, d = x.shape
    gram, found = x.T @ x, []
    for c in range(CLASSES):
        y, alpha, beta = (labels == c) * 1.0, 1.0, 1.0
        for _ in range(300):
            m = beta * np.linalg.solve(alpha * np.eye(d) + beta * gram, x.T @ y)
            values = np.linalg.eigvalsh(gram)
            gamma = (beta * values / (alpha + beta * values)).sum()
            alpha, beta = gamma / (m @ m), (n - gamma) / np.square(y - x @ m).sum()
        a = alpha * np.eye(d) + beta * gram
        m = beta * np.linalg.solve(a, x.T @ y)
        both = beta * np.square(y - x @ m).sum() + alpha * (m @ m)
        logs = n * np.log(beta) + d * np.log(alpha) - n * np.log(2 * np.pi)
        found.append((logs - both - np.linalg.slogdet(a)[1]) / (2 * n))
    np.testing.assert_allclose(log_me(x, labels), np.mean(found), rtol=1e-10)


@given(SEEDS, st.sampled_from([3, 40, 90]))
def test_no_other_strength_has_more_evidence(seed, dim):
    x, labels = blobs(seed, dim=dim, spread=3.0)
    x = x * 10 ** np.random.default_rng(seed).uniform(-1.5, 1.5, dim)  # more than one maximum
    y = (labels == 0) * 1.0
    most = _class_spectrum.log_evidence(_class_spectrum.spectrum(x, 0.0), labels)[0]
    found = []
    for t in np.exp(np.linspace(-10, 25, 300)):
        covariance = np.eye(len(y)) + x @ x.T / t  # up to 1/β, whose best is known
        variance = y @ np.linalg.solve(covariance, y) / len(y)
        size = np.linalg.slogdet(covariance)[1] / len(y)
        found.append(-(np.log(2 * np.pi * np.e * variance) + size) / 2)
    assert max(found) - 1e-9 <= most <= max(found) + 1e-2


def test_features_that_explain_nothing_have_the_evidence_of_noise():
    labels = np.arange(12) % CLASSES
    share = 1 / CLASSES
    expected = -np.log(2 * np.pi * np.e * share) / 2
    for x in (np.zeros((12, 4)), np.zeros((12, 0))):
        np.testing.assert_allclose(log_me(x, labels), expected, rtol=1e-12)
    # balanced within each class, hence orthogonal to the indicators
    x = np.repeat([1.0, -1.0], 6)[:, None]
    np.testing.assert_allclose(log_me(x, labels), expected, rtol=1e-12)


def test_features_that_give_the_classes_exactly_have_evidence_without_bound():
    labels = np.arange(12) % CLASSES
    x = np.eye(CLASSES)[labels]
    assert transferability.log_me(x, labels, num_classes=CLASSES) == np.inf
    near = x + 1e-3 * np.random.default_rng(0).standard_normal(x.shape)
    assert 3 < log_me(near, labels) < 7
    # 12 independent dimensions give anything exactly, which is no evidence
    assert log_me(np.eye(12), labels) < 0


# --- H-score


def h_score_of_matrices(x, labels, shrink=lambda s: (s, 0.0)):
    """tr(Σ⁺ (1−λ)Σ_b) from the matrices."""
    means = np.stack([x[labels == label].mean(0) for label in labels])
    covariance = np.cov(x, rowvar=False, bias=True).reshape(x.shape[1], -1)
    between = np.cov(means, rowvar=False, bias=True).reshape(x.shape[1], -1)
    covariance, shrinkage = shrink(covariance)
    inverse = np.linalg.pinv(covariance, rcond=1e-10, hermitian=True)
    return (1 - shrinkage) * np.trace(inverse @ between)


def ledoit_wolf(x, covariance):
    """Eq. 14 of Ledoit and Wolf, from the outer products."""
    n, d = x.shape
    z, mean = x - x.mean(0), np.trace(covariance) / d
    apart = np.square(covariance - mean * np.eye(d)).sum()
    noise = sum(np.square(np.outer(row, row) - covariance).sum() for row in z) / n**2
    shrinkage = min(noise, apart) / apart
    return (1 - shrinkage) * covariance + shrinkage * mean * np.eye(d), shrinkage


@pytest.mark.parametrize(("num", "dim"), [(40, 5), (40, 2), (20, 20), (20, 50)])
def test_h_scores_are_those_of_the_matrices(num, dim):
    x, labels = blobs(3, num, dim)
    plain, shrunk = h_scores(x, labels)
    np.testing.assert_allclose(plain, h_score_of_matrices(x, labels), rtol=1e-9)
    expected = h_score_of_matrices(x, labels, lambda s: ledoit_wolf(x, s))
    np.testing.assert_allclose(shrunk, expected, rtol=1e-9)
    assert 0 < shrunk < plain
    for name, value in (("h_score", plain), ("shrunk", shrunk)):
        np.testing.assert_allclose(SCORES[name](x, labels, CLASSES), value, rtol=1e-6)


def test_the_shrinkage_is_scikit_learns():
    covariance = pytest.importorskip("sklearn.covariance")
    x, labels = blobs(4, 30, 12)
    expected = h_score_of_matrices(x, labels, lambda s: covariance.ledoit_wolf(x))
    np.testing.assert_allclose(h_scores(x, labels)[1], expected, rtol=1e-9)


def test_one_feature_is_not_shrunk_and_its_h_score_is_the_correlation_ratio():
    x, labels = blobs(5, dim=1)
    within = sum(np.square(x[labels == c] - x[labels == c].mean()).sum() for c in range(CLASSES))
    expected = 1 - within / np.square(x - x.mean()).sum()
    np.testing.assert_allclose(h_scores(x, labels), expected, rtol=1e-10)


@given(SEEDS)
def test_h_score_laws(seed):
    x, labels = blobs(seed)
    plain, shrunk = h_scores(x, labels)
    assert 0 <= shrunk <= plain <= CLASSES - 1 + 1e-12
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    affine = x @ (turn * 10.0 ** rng.uniform(-2, 2, 5)) + rng.standard_normal(5)
    np.testing.assert_allclose(h_scores(affine, labels)[0], plain, rtol=1e-8)
    np.testing.assert_allclose(h_scores(7 * x @ turn - 3, labels)[1], shrunk, rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, jnp.bfloat16], ids=str)
def test_directions_that_rounding_made_do_not_count(dtype):
    """Copies of three features, far from the origin and mixed in the given precision."""
    x, labels = blobs(6, 60, 3)
    mix = np.random.default_rng(0).standard_normal((3, 30))
    mixed = np.asarray(50 + x @ mix).astype(dtype)
    loss = {np.float64: 1e-9, np.float32: 1e-4, jnp.bfloat16: 0.15}[dtype]
    np.testing.assert_allclose(h_scores(mixed, labels)[0], h_scores(x, labels)[0], rtol=loss)


def test_features_in_general_position_tell_any_labels_apart():
    x, labels = blobs(7, 20, 19)
    np.testing.assert_allclose(h_scores(x, labels)[0], CLASSES - 1, rtol=1e-9)
    x = np.random.default_rng(0).standard_normal((200, 199))
    assert h_scores(x, np.arange(200) % CLASSES)[1] < 0.7


# --- nearest neighbours


def vote(x, labels, k):
    """Leave-one-out votes with exact ties, an example at a time."""
    right = 0.0
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        squared = np.array([((x[i] - x[j]) ** 2).sum() for j in others])
        border = np.sort(squared)[k - 1]
        places = (k - (squared < border).sum()) / (squared == border).sum()
        votes = np.zeros(CLASSES)
        for j, d in zip(others, squared, strict=True):
            votes[labels[j]] += 1.0 if d < border else places if d == border else 0.0
        top = np.isclose(votes, votes.max(), rtol=0, atol=1e-9)
        right += top[labels[i]] / top.sum()
    return right / len(x)


@pytest.mark.parametrize("k", [1, 4, 39])
@pytest.mark.parametrize("whole", [False, True], ids=["apart", "tied"])
def test_k_nearest_is_the_vote(k, whole):
    x, labels = blobs(8, dim=2, spread=0.7)
    x = np.round(x) if whole else x
    expected = vote(x, labels, k)
    np.testing.assert_allclose(nearest(x, labels, k), expected, rtol=1e-12)
    got = transferability.k_nearest(
        x, labels, k=k, num_classes=CLASSES, metric="euclidean", confidence=0.9
    )
    z = stats.norm.ppf(0.95)
    for end in (got.low, got.high):
        error = z * np.sqrt(float(end) * (1 - float(end)) / len(x))
        np.testing.assert_allclose(abs(expected - float(end)), error, rtol=1e-4, atol=1e-6)
    assert got.low <= got.accuracy <= got.high


@pytest.mark.parametrize("k", [1, 6])
def test_cosine_is_the_vote_of_directions(k):
    x, labels = blobs(9, spread=0.7)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    value = nearest(x, labels, k, "cosine")
    np.testing.assert_allclose(value, vote(unit, labels, k), rtol=1e-12)
    lengths = np.random.default_rng(0).uniform(0.1, 10, (len(x), 1))
    assert nearest(lengths * x, labels, k, "cosine") == value


def test_blocks_change_nothing(monkeypatch):
    x, labels = blobs(10)
    value = nearest(x, labels)
    monkeypatch.setattr(_votes, "_BLOCK", 7 * len(x))
    assert nearest(x, labels) == value


def test_no_neighbours_no_accuracy():
    x, labels = blobs(11, num=6)
    assert np.isfinite(nearest(x, labels, 5))
    assert np.isnan(nearest(x, labels, 6))
    assert np.isnan(nearest(np.full((6, 2), 0.1), labels, 2))
    assert np.isnan(nearest(np.zeros((6, 0)), labels, 2))
    parallel = np.outer([1.0, 2.0, 3.0, 0.1, 0.7, 5.0], x[0])
    assert np.isnan(nearest(parallel, labels, 2, "cosine"))
    assert np.isfinite(nearest(parallel, labels, 2))
    x[2] = 0
    assert np.isnan(nearest(x, labels, 2, "cosine"))
    assert np.isfinite(nearest(x, labels, 2))


# --- the source's answers


@given(SEEDS)
def test_leep_is_the_formula_and_laws(seed):
    source, labels = probabilities(seed)
    joint = np.zeros((CLASSES, 5))
    for row, label in zip(source, labels, strict=True):
        joint[label] += row / len(labels)
    given_source = joint / joint.sum(0)
    expected = np.mean(
        [np.log(given_source[y] @ row) for row, y in zip(source, labels, strict=True)]
    )
    got = float(transferability.leep(source, labels, num_classes=CLASSES))
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert -entropy(labels) <= got <= 0
    answers = source.argmax(1)
    nce = transferability.nce(answers, labels, num_classes=CLASSES)
    hard = transferability.leep(np.eye(5)[answers], labels, num_classes=CLASSES)
    np.testing.assert_allclose(nce, hard, rtol=1e-6)
    np.testing.assert_allclose(
        transferability.leep(source[:, ::-1], labels, num_classes=CLASSES), got, rtol=1e-6
    )


def test_nce_is_the_conditional_entropy():
    answers, labels = np.array([7, 7, 7, 7, -2, -2]), np.array([0, 0, 1, 2, 1, 1])
    got = transferability.nce(answers, labels, num_classes=CLASSES)
    expected = -4 / 6 * (1 / 2 * np.log(2) + 2 * 1 / 4 * np.log(4))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_answers_that_tell_nothing_or_all():
    labels = np.array([0, 0, 0, 1, 1, 2])
    same = np.tile([0.2, 0.3, 0.5], (6, 1))
    got = transferability.leep(same, labels, num_classes=CLASSES)
    np.testing.assert_allclose(got, -entropy(labels), rtol=1e-6)
    all_told = np.eye(4)[labels]  # the fourth answer never comes
    assert transferability.leep(all_told, labels, num_classes=CLASSES) == 0
    assert transferability.nce(5 - labels, labels, num_classes=CLASSES) == 0


# --- all scores


@every_score
def test_order_and_names_change_nothing(score):
    x, labels = blobs(12)
    value = score(x, labels, CLASSES)
    order = np.random.default_rng(0).permutation(len(x))
    np.testing.assert_allclose(score(x[order], labels[order], CLASSES), value, rtol=1e-6)
    np.testing.assert_allclose(score(x, (labels + 1) % CLASSES, CLASSES), value, rtol=1e-6)
    # classes without examples, among the others and after them
    np.testing.assert_allclose(score(x, 2 * labels, 9), value, rtol=1e-6)


@every_score_of_features
@pytest.mark.parametrize("dim", [5, 60])
def test_turning_and_scaling_change_nothing(score, dim):
    x, labels = blobs(13, dim=dim)
    value = score(x, labels, CLASSES)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((dim, dim)))[0]
    np.testing.assert_allclose(score(x @ turn, labels, CLASSES), value, rtol=1e-6)
    for factor in (-3.0, 1e-200, 1e200):
        np.testing.assert_allclose(score(factor * x, labels, CLASSES), value, rtol=1e-6)
    wide = np.pad(x, ((0, 0), (0, 3)))
    if score is not OF_FEATURES["shrunk"]:  # which shrinks towards all dimensions alike
        np.testing.assert_allclose(score(wide, labels, CLASSES), value, rtol=1e-6)
    images = x.reshape(len(x), dim // 5, 5)
    np.testing.assert_allclose(score(images, labels, CLASSES), value, rtol=1e-6)


@every_score
def test_better_features_score_higher(score):
    values = [score(*blobs(14, 90, 6, spread), CLASSES) for spread in (0.3, 2.0, 30.0)]
    assert values[0] > values[1] > values[2]


@every_score
def test_undefined_is_nan(score):
    x, labels = blobs(15)
    assert np.isfinite(score(x, labels, CLASSES))
    assert np.isnan(score(x, np.ones_like(labels), CLASSES))
    for num in (0, 1):
        assert np.isnan(score(x[:num], labels[:num], CLASSES))


@every_score_of_features
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_give_nan(score, value):
    x, labels = blobs(16)
    x[3, 1] = value
    assert np.isnan(score(x, labels, CLASSES))


def test_probabilities_that_are_not_numbers_give_nan():
    source, labels = probabilities()
    source[2] = np.nan
    assert np.isnan(transferability.leep(source, labels, num_classes=CLASSES))


def test_constant_features_have_no_h_score_to_speak_of():
    labels = np.arange(9) % CLASSES
    assert h_scores(np.full((9, 4), 0.1), labels) == (0, 0)
    assert h_scores(np.zeros((9, 0)), labels) == (0, 0)
    assert transferability.log_me(np.full((9, 4), 0.1), labels, num_classes=3) < 0


# --- rank correlation


@pytest.mark.parametrize("num", [3, 5, 8])
@pytest.mark.parametrize("whole", [False, True], ids=["apart", "tied"])
def test_rank_correlations_are_scipys(num, whole):
    rng = np.random.default_rng(num)
    x = rng.standard_normal(num)
    y = x + rng.standard_normal(num)
    if whole:
        x, y = np.round(x), np.round(y)
        x[:2], x[2], y[1:3], y[0] = 0, 2, 1, 3
    got = transferability.rank_correlation(x, y)
    np.testing.assert_allclose(got.weighted_tau, stats.weightedtau(x, y).statistic, rtol=1e-6)
    np.testing.assert_allclose(got.kendall, stats.kendalltau(x, y).statistic, rtol=1e-6)
    np.testing.assert_allclose(got.spearman, stats.spearmanr(x, y).statistic, rtol=1e-6)
    assert got.num_models == num
    if not whole:
        exact = stats.kendalltau(x, y, method="exact", alternative="greater").pvalue
        np.testing.assert_allclose(got.p_kendall, exact, rtol=1e-6)


def test_p_values_count_all_orders():
    x, y = np.array([1.0, 2.0, 2.0, 5.0, 3.0]), np.array([0.1, 0.4, 0.2, 0.8, 0.9])
    orders = [list(order) for order in itertools.permutations(range(5))]
    taus = np.array([stats.weightedtau(x, y[order]).statistic for order in orders])
    rhos = np.array([stats.spearmanr(x, y[order]).statistic for order in orders])
    got = transferability.rank_correlation(x, y)
    np.testing.assert_allclose(got.p_weighted_tau, (taus >= taus[0] - 1e-12).mean(), rtol=1e-6)
    np.testing.assert_allclose(got.p_spearman, (rhos >= rhos[0] - 1e-12).mean(), rtol=1e-6)


def test_p_values_of_many_models_are_drawn():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(12)
    y = x + 2 * rng.standard_normal(12)
    got = transferability.rank_correlation(x, y, key=jax.random.key(0))
    again = transferability.rank_correlation(x, y, key=jax.random.key(0))
    assert got == again
    exact = stats.kendalltau(x, y, method="exact", alternative="greater").pvalue
    assert 0.02 < exact < 0.5
    np.testing.assert_allclose(got.p_kendall, exact, atol=4 * np.sqrt(exact / 9999))
    best = transferability.rank_correlation(x, x, key=jax.random.key(1))
    np.testing.assert_allclose(best.p_spearman, 1e-4, rtol=1e-6)


@given(SEEDS)
def test_rank_correlation_laws(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 4, (2, 6)).astype(float)
    x[:2], y[:2] = (0, 1), (0, 1)
    got = transferability.rank_correlation(x, y)
    values = np.array(got[:6])
    assert (np.abs(values[:3]) <= 1 + 1e-6).all()
    assert ((values[3:] > 0) & (values[3:] <= 1)).all()
    order = rng.permutation(6)
    for other in (
        transferability.rank_correlation(y, x),
        transferability.rank_correlation(x[order], y[order]),
        transferability.rank_correlation(np.exp(x), 3 * y - 1),
    ):
        np.testing.assert_allclose(other[:6], values, rtol=1e-6)
    same = transferability.rank_correlation(x, x)
    np.testing.assert_allclose(same[:3], 1, rtol=1e-6)


def test_parts_of_the_orders_change_nothing(monkeypatch):
    x, y = np.random.default_rng(0).permuted(np.tile(np.arange(5.0), (2, 1)), axis=1)
    whole = transferability.rank_correlation(x, y)
    monkeypatch.setattr(_rank_correlation, "_PAIRS", 100)
    assert transferability.rank_correlation(x, y) == whole


def test_rank_correlation_of_too_little_is_nan():
    for x, y in (
        ([], []),
        ([1.0, 2.0], [1.0, 2.0]),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]),
        ([1.0, np.nan, 3.0], [1.0, 2.0, 3.0]),
    ):
        got = transferability.rank_correlation(x, y)
        assert np.isnan(got[:6]).all()
        assert got.num_models == len(x)
    got = transferability.rank_correlation([1.0, np.inf, -np.inf], [2.0, 3.0, 1.0])
    np.testing.assert_allclose(got[:4], [1, 1, 1, 1 / 6], rtol=1e-6)


# --- a model's layers


def layers_of(params, inputs):
    """Features, images of them, and the logits of five source classes."""
    wide = jnp.tanh(inputs @ params)
    return {"inputs": inputs, "images": wide.reshape(len(wide), 2, 2, -1), "source": wide[:, :5]}


def data(num=50):
    x, labels = blobs(17, num, 6)
    weights = np.random.default_rng(1).standard_normal((6, 16)).astype(np.float32)
    return x.astype(np.float32), labels.astype(np.int32), weights


@pytest.mark.parametrize("spatial", ["flatten", "pool"])
def test_scores_of_layers_are_those_of_their_features(spatial):
    x, labels, weights = data()
    stream = streams.from_arrays(x, labels, batch_size=16)
    got = transferability.scores(
        layers_of, weights, stream,
        num_classes=CLASSES, layers=("images", "inputs"), source_logits="source", spatial=spatial,
        k=4, metric="euclidean", confidence=0.9,
    )  # fmt: skip
    assert got.layers == ("images", "inputs")
    assert int(got.num_examples) == 50
    features = layers_of(weights, x)
    for i, name in enumerate(got.layers):
        rows = np.asarray(features[name])
        if spatial == "pool" and name == "images":
            rows = rows.mean((1, 2))
        rows = rows.reshape(50, -1)
        near = transferability.k_nearest(
            rows, labels, k=4, num_classes=CLASSES, metric="euclidean", confidence=0.9
        )
        expected = [*(SCORES[s](rows, labels, CLASSES) for s in ("log_me", "h_score", "shrunk"))]
        found = [got.log_me, got.h_score, got.shrunk_h_score, got.k_nearest, got.low, got.high]
        np.testing.assert_allclose([v[i] for v in found], [*expected, *near], rtol=1e-4)
        assert got.num_features[i] == rows.shape[1]
    logits = np.asarray(features["source"], np.float64)
    np.testing.assert_allclose(got.leep, SCORES["leep"](logits, labels, CLASSES), rtol=1e-5)
    np.testing.assert_allclose(got.nce, SCORES["nce"](logits, labels, CLASSES), rtol=1e-5)


def test_batches_padding_and_masked_rows_change_nothing():
    x, labels, weights = data()
    inputs = np.full((100, 6), np.nan, np.float32)
    truth = np.full(100, 99, np.int32)
    inputs[1::2], truth[1::2] = x, labels

    def masked():
        for i in range(0, 100, 10):
            part = slice(i, i + 10)
            mask = np.arange(10) % 2 == 1
            yield {"inputs": inputs[part], "labels": truth[part], "mask": mask}

    whole, *others = (
        transferability.scores(
            layers_of, weights, stream, num_classes=CLASSES, source_logits="source"
        )
        for stream in (
            streams.from_arrays(x, labels, batch_size=50),
            streams.from_arrays(x, labels, batch_size=7),
            masked,
        )
    )
    assert whole.layers == ("inputs", "images", "source")
    for other in others:
        assert other.layers == whole.layers
        for a, b in zip(other[1:], whole[1:], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4)


def test_a_layer_that_is_not_finite_leaves_the_others_alone():
    x, labels, _ = data()

    def two(params, inputs):
        return {"broken": jnp.log(inputs * 0 - 1), "fine": inputs}

    stream = streams.from_arrays(x, labels, batch_size=50)
    got = transferability.scores(two, None, stream, num_classes=CLASSES, source_logits="broken")
    for value in (got.log_me, got.h_score, got.shrunk_h_score, got.k_nearest, got.low, got.high):
        assert np.isnan(value[0])
        assert np.isfinite(value[1])
    assert np.isnan([got.leep, got.nce]).all()
    plain = transferability.scores(two, None, stream, num_classes=CLASSES, layers=())
    assert plain.log_me.shape == (0,)
    assert np.isnan([plain.leep, plain.nce]).all()


# --- errors

X, Y = np.zeros((4, 2)), np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: transferability.log_me(X, Y[:3], num_classes=3),
            ValueError,
            "expected features [N, ...] with a label each, got shapes (4, 2) and (3,)",
        ),
        (
            lambda: transferability.h_score(X, Y[:, None], num_classes=3),
            ValueError,
            "expected labels [N], got shape (4, 1)",
        ),
        (
            lambda: transferability.h_score(X, Y, num_classes=2),
            ValueError,
            "expected labels in 0 … 1, got 1 examples with others; "
            "check num_classes and the labels",
        ),
        (
            lambda: transferability.nce(Y, -Y, num_classes=3),
            ValueError,
            "expected labels in 0 … 2, got 2 examples with others; "
            "check num_classes and the labels",
        ),
        (
            lambda: transferability.log_me(X, Y * 1.0, num_classes=3),
            TypeError,
            "expected labels as integers, got dtype float64",
        ),
        (
            lambda: transferability.log_me(X * 1j, Y, num_classes=3),
            TypeError,
            "expected real features, got dtype complex128",
        ),
        (
            lambda: transferability.h_score(X, Y, num_classes=3, shrinkage="ledoit"),
            ValueError,
            "unknown shrinkage 'ledoit'; did you mean 'ledoit_wolf'? Known: ledoit_wolf",
        ),
        (
            lambda: transferability.k_nearest(X, Y, k=0, num_classes=3),
            ValueError,
            "expected k of at least 1, got 0",
        ),
        (
            lambda: transferability.k_nearest(X, Y, k=1.5, num_classes=3),
            TypeError,
            "'float' object cannot be interpreted as an integer",
        ),
        (
            lambda: transferability.k_nearest(X, Y, k=1, num_classes=3, metric="cosin"),
            ValueError,
            "unknown metric 'cosin'; did you mean 'cosine'? Known: cosine, euclidean",
        ),
        (
            lambda: transferability.k_nearest(X, Y, k=1, num_classes=3, confidence=1),
            ValueError,
            "expected a confidence between 0 and 1, got 1",
        ),
        (
            lambda: transferability.leep(X[0], Y, num_classes=3),
            ValueError,
            "expected source probabilities [N, Z] with a label each, got shapes (2,) and (4,)",
        ),
        (
            lambda: transferability.leep(X + np.array([-0.5, 1.5]), Y, num_classes=3),
            ValueError,
            "expected source probabilities, rows of at least 0 that sum to 1, got others; "
            "take the softmax of logits",
        ),
        (
            lambda: transferability.leep(X, Y, num_classes=3),
            ValueError,
            "expected source probabilities, rows of at least 0 that sum to 1, got others; "
            "take the softmax of logits",
        ),
        (
            lambda: transferability.nce(Y * 1.0, Y, num_classes=3),
            TypeError,
            "expected source predictions as integers, got dtype float64",
        ),
        (
            lambda: transferability.nce(Y[:2], Y, num_classes=3),
            ValueError,
            "expected a prediction for each label, got shapes (2,) and (4,)",
        ),
        (
            lambda: transferability.rank_correlation(Y, Y[:3]),
            ValueError,
            "expected scores [n] and measured values [n] of the same models, "
            "got shapes (4,) and (3,)",
        ),
        (
            lambda: transferability.rank_correlation(range(9), range(9)),
            ValueError,
            "expected a key for 9 models, got None: the orders of more than 8 are drawn; "
            "pass key=jax.random.key(0)",
        ),
        (
            lambda: transferability.rank_correlation(range(9), range(9), key=0),
            TypeError,
            "expected key to be a typed PRNG key, such as jax.random.key(0), got int; "
            "jax.random.wrap_key_data converts others",
        ),
        (
            lambda: transferability.rank_correlation(Y, Y, num_draws=0),
            ValueError,
            "expected at least one draw, got 0",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["inptus"]}, "unknown layer 'inptus'; did you mean 'inputs'? Known: inputs"),
        ({"source_logits": "head"}, "unknown layer 'head'. Known: inputs"),
        ({"spatial": "positions"}, "unknown spatial 'positions'. Known: flatten, pool"),
        ({"k": 0}, "expected k of at least 1, got 0"),
        (
            {"num_classes": 2},
            "expected labels in 0 … 1, got 1 examples with others; "
            "check num_classes and the labels",
        ),
    ],
    ids=str,
)
def test_errors_of_scores(options, message):
    stream = streams.from_arrays(X.astype(np.float32), Y, batch_size=4)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        transferability.scores(
            lambda params, inputs: {"inputs": inputs}, None, stream, **{"num_classes": 3, **options}
        )


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (X[:0], Y[:0], "expected a stream with at least one batch, got none"),
        (X, None, "expected batches with 'labels', got the keys ['index', 'inputs', 'mask']"),
    ],
)
def test_errors_of_streams(inputs, labels, message):
    stream = streams.from_arrays(inputs, labels, batch_size=4)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        transferability.scores(lambda p, x: {"x": x}, None, stream, num_classes=3)


def test_nce_of_answers_of_64_bits():
    answers = np.array([0, 1, 1, 0], np.uint64) + np.uint64(2**63)
    found = transferability.nce(answers, np.array([0, 1, 0, 1]), num_classes=2)
    np.testing.assert_allclose(found, -np.log(2), rtol=1e-6)
