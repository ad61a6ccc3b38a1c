"""Plain float64 numpy twins of the analyses, written from the formulas; slow and obvious."""

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
