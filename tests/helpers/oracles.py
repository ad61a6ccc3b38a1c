"""Plain float64 numpy twins of the analyses, written from the formulas; slow and obvious."""

import math

import numpy as np


def hsic0(k: np.ndarray, l_: np.ndarray) -> float:
    """tr(KHLH) / (n − 1)²."""
    n = len(k)
    h = np.eye(n) - np.full((n, n), 1 / n)
    return float(np.trace(k @ h @ l_ @ h)) / (n - 1) ** 2


def hsic1(k: np.ndarray, l_: np.ndarray) -> float:
    """The unbiased estimator, from the plain formula with zeroed diagonals."""
    n = len(k)
    k, l_ = k - np.diag(np.diag(k)), l_ - np.diag(np.diag(l_))
    one = np.ones(n)
    total = np.trace(k @ l_) + (one @ k @ one) * (one @ l_ @ one) / ((n - 1) * (n - 2))
    return float(total - 2 / (n - 2) * (one @ k @ l_ @ one)) / (n * (n - 3))


def u_centred(k: np.ndarray) -> np.ndarray:
    """Székely and Rizzo 2014, eq. 2.5."""
    n, rows = len(k), (k - np.diag(np.diag(k))).sum(0)
    out = k - (rows[None] + rows[:, None]) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    return out - np.diag(np.diag(out))


def gram(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    return x @ x.T


def cka(x: np.ndarray, y: np.ndarray, estimator: str) -> float:
    return minibatch_cka([(x, y)], estimator)


def minibatch_cka(batches: list[tuple[np.ndarray, np.ndarray]], estimator: str) -> float:
    """Sums over batches of n(n − 3)·HSIC₁ or (n − 1)²·HSIC₀, divided at the end."""
    sums = np.zeros(3)
    for x, y in batches:
        n = len(x)
        if n < 4:
            continue
        k, l_ = gram(x), gram(y)
        pairs = ((k, l_), (k, k), (l_, l_))
        if estimator == "debiased":
            sums += [n * (n - 3) * hsic1(*pair) for pair in pairs]
        else:
            sums += [(n - 1) ** 2 * hsic0(*pair) for pair in pairs]
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(sums[0] / np.sqrt(sums[1] * sums[2]))


def barrier(alphas: np.ndarray, losses: np.ndarray, kind: str) -> tuple[float, float]:
    a, losses = np.asarray(alphas, np.float64), np.asarray(losses, np.float64)
    left, right = losses[a == 0][0], losses[a == 1][0]
    best = (-np.inf, 0.0)
    for alpha, loss in zip(a, losses, strict=True):
        if 0 <= alpha <= 1:
            base = (1 - alpha) * left + alpha * right if kind == "chord" else (left + right) / 2
            if loss - base > best[0]:
                best = (loss - base, alpha)
    return best


def distances(a: list[np.ndarray], b: list[np.ndarray]) -> dict[str, float]:
    """l2, relative, cosine and the sum of tensor norms of one module's tensors."""
    x = np.concatenate([np.asarray(v, np.float64).ravel() for v in a])
    y = np.concatenate([np.asarray(v, np.float64).ravel() for v in b])
    l2 = np.linalg.norm(x - y)
    norms = np.linalg.norm(x), np.linalg.norm(y)
    tensors = [np.linalg.norm(np.float64(u) - np.float64(v)) for u, v in zip(a, b, strict=True)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "l2": float(l2),
            "relative": float(2 * l2 / np.float64(sum(norms))),
            "cosine": float(x @ y / np.float64(norms[0] * norms[1])),
            "sum_of_tensor_norms": float(np.sum(tensors)),
        }


def mistakes(
    labels: np.ndarray, a: np.ndarray, b: np.ndarray, num_classes: int
) -> dict[str, np.ndarray]:
    """The counts by class, one example at a time."""
    names = ("neither", "only_b", "only_a", "common")
    counts = {name: np.zeros(num_classes, int) for name in names}
    for label, one, other in zip(labels, a, b, strict=True):
        counts[names[2 * int(one != label) + int(other != label)]][label] += 1
    return counts


def kappa(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Cohen's kappa of being right; 1 where both are always right or wrong together."""
    if not len(right_a):
        return float("nan")
    p_a, p_b = np.mean(right_a), np.mean(right_b)
    expected = p_a * p_b + (1 - p_a) * (1 - p_b)
    observed = np.mean(np.asarray(right_a) == np.asarray(right_b))
    return 1.0 if observed == 1 else float((observed - expected) / (1 - expected))


def barrier_interval(alphas: np.ndarray, values: np.ndarray, kind: str, seed: int) -> np.ndarray:
    """The 2.5, 50 and 97.5 percentiles of the barrier over 4000 resamples, one at a time."""
    rng = np.random.default_rng(seed)
    n = values.shape[1]
    draws = (rng.integers(0, n, n) for _ in range(4000))
    heights = [barrier(alphas, values[:, rows].mean(1), kind)[0] for rows in draws]
    return np.percentile(heights, [2.5, 50, 97.5])


def principal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By SVD of the centred rows: shares of variance, coordinates and components."""
    centred = x - x.mean(0)
    u, s, v = np.linalg.svd(centred, full_matrices=False)
    return s**2 / (s**2).sum(), u * s, v


def basin_of_a_bowl(r: float, deltas: np.ndarray) -> dict[str, object]:
    """Definition 3.1 for l(w) = ‖w‖² / 2 and the segment from 0 to a point at distance r.

    With u uniform on [0, 1] the loss inside is r²u²/2, so mu = r²/6 and, since u² is below
    its mean up to u = 1/√3, epsilon = r² ∫₀^{1/√3} (1/3 − u²) du = 2r²/(9√3). Rays leave at
    either end with probability ½: noise adds delta²/2, and a step of length |v| out of the
    segment gives |v|²/2 at one end and (r + |v|)²/2 at the other, with E|v| = delta·√(2/π).
    """
    border = r**2 / 4 - r**2 / 6
    return {
        "mu": r**2 / 6,
        "epsilon": 2 * r**2 / (9 * np.sqrt(3)),
        "noise": border + deltas**2 / 2,
        "beyond": border + deltas**2 / 2 + r * deltas * np.sqrt(2 / np.pi) / 2,
    }


def curve(kind: str, controls: np.ndarray, ts: np.ndarray) -> np.ndarray:
    """Points of a Bézier curve (Bernstein's form) or a polygon, from control points [m, d]."""
    degree = len(controls) - 1
    if kind == "polygon":
        at = np.linspace(0, 1, degree + 1)
        return np.stack([np.interp(ts, at, column) for column in controls.T], 1)
    out = np.zeros((len(ts), controls.shape[1]))
    for i, control in enumerate(controls):
        weight = math.comb(degree, i) * ts**i * (1 - ts) ** (degree - i)
        out += weight[:, None] * control
    return out


def curve_length(kind: str, controls: np.ndarray) -> float:
    places = curve(kind, controls, np.linspace(0, 1, 12001))
    return float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())


def hessian_closed_form(model: str, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The Hessian of the mean loss of outputs x·w in w [D, C], row by row; labels drop out.

    "mse" (2/N) X'X and "logistic" (1/N) X' diag(s(1 − s)) X have one output; "softmax" is
    (1/N) Σ xx' ⊗ (diag p − pp').
    """
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    z = x @ w
    if model == "mse":
        return 2 * x.T @ x / len(x)
    if model == "logistic":
        s = 1 / (1 + np.exp(-z[:, 0]))
        return x.T @ np.diag(s * (1 - s)) @ x / len(x)
    p = np.exp(z - z.max(1, keepdims=True))
    p = p / p.sum(1, keepdims=True)
    others = 1 - np.eye(w.shape[1])  # 1 − p is the sum of these, for a saturated softmax too
    terms = (
        np.kron(np.outer(u, u), np.diag(q * (others @ q)) - others * np.outer(q, q))
        for u, q in zip(x, p, strict=True)
    )
    return sum(terms) / len(x)


def greedy_soup(models: list[np.ndarray], score: object) -> tuple[list[int], float]:
    """Models join in the order of their scores if the score of the average does not fall."""
    order = sorted(range(len(models)), key=lambda i: -score(models[i]))
    kept = order[:1]
    for i in order[1:]:
        if score(np.mean([models[j] for j in [*kept, i]], 0)) >= score(
            np.mean([models[j] for j in kept], 0)
        ):
            kept = [*kept, i]
    return kept, score(np.mean([models[j] for j in kept], 0))


def quadratic_in_ball(curves: np.ndarray, slopes: np.ndarray, radius: float) -> float:
    """The maximum of Σ c·d²/2 + s·d over ‖d‖ ≤ r, not all c negative: d = s / (mu − c).

    On the sphere mu is above every c and makes ‖d‖ = r, which bisection finds (no s is 0).
    """
    low, high = curves.max(), curves.max() + np.linalg.norm(slopes) / radius
    for _ in range(200):
        middle = (low + high) / 2
        inside = np.linalg.norm(slopes / (middle - curves)) < radius
        low, high = (low, middle) if inside else (middle, high)
    d = slopes / (high - curves)
    return float((curves * d**2).sum() / 2 + slopes @ d)
