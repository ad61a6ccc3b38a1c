"""How curved the loss is at a model: products with its Hessian, eigenvalues, trace, density.

A matrix is an `Operator`, a function from a vector to a vector: built once for a model and its
data by `hessian` or `gauss_newton`, and passed to `eigenvalues`, `trace` and `density`. None
stores the matrix. To monitor long computations, count the products, each a pass over all the data:
`operator._replace(product=counting)`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matfree import stochtrace
from scipy import special

from tlx.analyses.landscape import _mean_loss, _operator, _output_curvature
from tlx.analyses.landscape._lanczos import Tridiagonal, tridiagonal
from tlx.analyses.landscape._operator import Operator as Operator
from tlx.core import contracts, host, public, shown, tree
from tlx.core.types import ApplyFn, Labels, Params, PerExampleFn, Stream

__dir__ = public.names(__name__)

CELLS = 512
"""The cells of a density's grid."""

_TAIL = 5.0  # widths between the outermost node and the end of the grid: a mass of 3e-7 lies beyond


@shown.short
class Eigenvalues(NamedTuple):
    """Ritz values, which approximate the outer eigenvalues first.

    Attributes:
      values: float64 [K], in decreasing order: the largest eigenvalues first, the most negative
        last. Those in between are eigenvalues only if their residual is small.
      residuals: float64 [K], ‖A·u − value·u‖ for the unit Ritz vector u: an eigenvalue lies
        within it (up to rounding). At least 1e-31 in float32, where products lose bits.
      vectors: pytree like the parameters with a leading axis [V, ...], the Ritz vectors of
        the first V values, of norm 1, zero in the leaves that are not chosen; None if V is 0.
    """

    values: Float[np.ndarray, " K"]
    residuals: Float[np.ndarray, " K"]
    vectors: Params | None


@shown.short
class Trace(NamedTuple):
    """A trace estimated from random probes.

    Attributes:
      value: float64 scalar, the mean over the probes.
      standard_error: float64 scalar, of that mean, at least 1e-31 for each row in float32; NaN
        for a single probe.
      samples: float64 [S], the estimate of each probe.
    """

    value: float
    standard_error: float
    samples: Float[np.ndarray, " S"]


@shown.short
class Density(NamedTuple):
    """A spectral density estimated from random probes.

    Attributes:
      nodes: float64 [S, K], for each probe where its mass lies.
      weights: float64 [S, K], the mass there: at least 0, summing to 1 over each row.
      edges: float64 [G + 1], the edges of `CELLS` equal cells from 5 widths below the least
        node to 5 above the largest.
      density: float64 [G], the mean in each cell of the mixture of Gaussians of standard
        deviation `width` at the nodes; times the cells' length it sums to 1 within 1e-6.
      width: float64 scalar, in the unit of the eigenvalues; at least 1e-31 in float32.
    """

    nodes: Float[np.ndarray, "S K"]
    weights: Float[np.ndarray, "S K"]
    edges: Float[np.ndarray, " G1"]
    density: Float[np.ndarray, " G"]
    width: float


@host.only
def hessian(
    apply_fn: ApplyFn,
    loss: PerExampleFn,
    params: Params,
    stream: Stream,
    *,
    labels: Labels | None = None,
    modules: Iterable[str] | str | None = None,
) -> Operator:
    """The matrix of second derivatives of the mean loss over a stream.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      loss: `(outputs, batch) -> float [B]`, such as `tlx.core.metrics.softmax_cross_entropy`.
      params: pytree of arrays. Floating leaves vary, of complex ones the real and imaginary
        part of each number, next to each other; others and batch statistics do not.
      stream: batches of constant shape.
      labels: pytree of str, the module of each leaf; None for all leaves.
      modules: only the leaves of these vary: the matrix is a diagonal block of the full one.

    Returns:
      `Operator`. It does not depend on batch size, padding, the batches' order or the number
      of devices, up to rounding.

    Raises:
      ValueError: at call, for an unknown module, labels without modules or the reverse,
        where no floating leaf varies, for a stream without examples; at a product, for a
        vector of another shape. And for a loss that is not one value per row, labels that it
        does not accept, or a curvature that float32 does not preserve at these outputs: of a
        loss that forms 1 − p, where the model is confident.

    Numerics: vectors and sums over batches in float32 or more, whatever the parameters'
      dtype; the net computes in its dtype. NaN in an example's loss makes products NaN.
    Cost: at call one pass over the stream and a forward pass of each batch; a product has about
      9 times the arithmetic of a forward pass, where a gradient has 3 times. Batches stay on the
      device if they take at most 1 GiB, else each product reads the stream.
    References: Pearlmutter 1994, "Fast exact multiplication by the Hessian".

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return inputs @ params["w"]
    >>> inputs = jnp.diag(jnp.array([1.0, 3.0]))  # loss (w₁² + 9·w₂²) / 2
    >>> stream = streams.from_arrays(inputs, jnp.zeros(2), batch_size=2)
    >>> matrix = landscape.hessian(apply_fn, metrics.squared_error, {"w": jnp.ones(2)}, stream)
    >>> [matrix.product(jnp.array(vector)).tolist() for vector in ([1.0, 0.0], [0.0, 1.0])]
    [[1.0, 0.0], [0.0, 9.0]]
    """
    mean_loss = _mean_loss.make(apply_fn, loss, params, stream, labels, modules)
    _output_curvature.require(mean_loss)
    return _operator.make(_operator.hessian_part, mean_loss)


@host.only
def gauss_newton(
    apply_fn: ApplyFn,
    loss: PerExampleFn,
    params: Params,
    stream: Stream,
    *,
    labels: Labels | None = None,
    modules: Iterable[str] | str | None = None,
) -> Operator:
    """The generalised Gauss-Newton matrix of the mean loss: the mean of Jᵀ·H·J.

    J is the Jacobian of the outputs, H the Hessian of the loss in the outputs: the part of
    the Hessian that remains when the net is linearised. It has no negative
    eigenvalue if the loss is convex in the outputs, as cross-entropy and squared error are,
    and for cross-entropy it is the Fisher information matrix.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      loss: `(outputs, batch) -> float [B]`.
      params: pytree of arrays. Floating leaves vary, of complex ones the real and imaginary
        part of each number, next to each other; others and batch statistics do not.
      stream: batches of constant shape.
      labels: pytree of str, the module of each leaf; None for all leaves.
      modules: only the leaves of these vary.

    Returns:
      `Operator`; its errors and numerics are those of `hessian`.

    Cost: as `hessian`, but a product has about 5 times the arithmetic of a forward pass.
    References: Schraudolph 2002, "Fast curvature matrix-vector products for second-order
      gradient descent".

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return params["u"] * params["v"] * inputs
    >>> stream = streams.from_arrays(jnp.ones(4), 4 * jnp.ones(4), batch_size=4)
    >>> of_model = (apply_fn, metrics.squared_error, {"u": 1.0, "v": 1.0}, stream)
    >>> for make in (landscape.hessian, landscape.gauss_newton):
    ...     print(make(*of_model).product(jnp.ones(2)))  # the Hessian is not positive here
    [-2. -2.]
    [4. 4.]
    """
    mean_loss = _mean_loss.make(apply_fn, loss, params, stream, labels, modules)
    _output_curvature.require(mean_loss)
    return _operator.make(_operator.gauss_newton_part, mean_loss)


@host.only
def eigenvalues(operator: Operator, *, order: int, key: Array, num_vectors: int = 0) -> Eigenvalues:
    """The outer eigenvalues, by Lanczos' method with full reorthogonalisation.

    Args:
      operator: from `hessian` or `gauss_newton`, or any symmetric matrix.
      order: K, the number of products, 1 … P. The outermost values converge first; P gives
        all eigenvalues, repeated ones as often as they occur.
      key: typed PRNG key, of the start vector.
      num_vectors: V, of how many of the largest values to return the vectors, 0 … K.

    Returns:
      `Eigenvalues`; NaN throughout where a product is not finite.

    Raises:
      ValueError: at call, for an order or num_vectors out of range.

    Numerics: products and basis in the operator's dtype; an error of about 1e-6 of the
      largest magnitude in float32. If `apply_fn` returns log-probabilities, they lose their
      curvature in float32 above a margin of about 10 nats, which cannot be detected here:
      return logits.
    Cost: K products. Memory: K·P numbers on the host, on the device a few vectors.
    References: Lanczos 1950; Paige 1972, "Computational variants of the Lanczos method".

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return params["u"] * params["v"] * inputs
    >>> stream = streams.from_arrays(jnp.ones(4), jnp.ones(4), batch_size=4)
    >>> for model in ({"u": 1.0, "v": 1.0}, {"u": 2.0, "v": 0.5}):  # one function, loss 0
    ...     matrix = landscape.hessian(apply_fn, metrics.squared_error, model, stream)
    ...     found = landscape.eigenvalues(matrix, order=2, key=jax.random.key(0))
    ...     print(found.values[0].round(3))  # 2·(u² + v²), the other is 0
    4.0
    8.5
    """
    contracts.typed_key(key)
    _check_order(operator, order)
    if not 0 <= num_vectors <= order:
        raise ValueError(f"expected num_vectors in 0 … {order}, the order, got {num_vectors}")
    found = tridiagonal(operator.product, _probe(operator, key), order)
    values, mixes = _ritz(found)
    residuals = np.maximum(
        np.abs(found.off_diagonal[-1] * mixes[-1]), _operator.unresolved(operator)
    )
    vectors = None
    if num_vectors:
        rows = (found.basis.T @ mix.astype(found.basis.dtype) for mix in mixes.T[:num_vectors])
        vectors = tree.stack([operator.unravel(row) for row in rows])
    return Eigenvalues(values, residuals, vectors)


@host.only
def trace(operator: Operator, *, num_probes: int, key: Array) -> Trace:
    """The trace, the sum of all eigenvalues, by Hutchinson's estimator.

    The mean of vᵀ·A·v over vectors v of random signs. Exact for a diagonal matrix; else a
    sample's variance is twice the sum of squares off the diagonal.

    Args:
      operator: a symmetric matrix.
      num_probes: S, the number of vectors, at least 1.
      key: typed PRNG key.

    Returns:
      `Trace`; NaN where a product is NaN.

    Raises:
      ValueError: at call, for fewer than one probe.

    Cost: S products. Memory: a few vectors.
    References: Hutchinson 1989, "A stochastic estimator of the trace of the influence matrix".

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return inputs @ params["w"]
    >>> inputs = jnp.diag(jnp.array([1.0, 3.0]))  # so the Hessian is diag(1, 9)
    >>> stream = streams.from_arrays(inputs, jnp.zeros(2), batch_size=2)
    >>> matrix = landscape.hessian(apply_fn, metrics.squared_error, {"w": jnp.ones(2)}, stream)
    >>> landscape.curvature.trace(matrix, num_probes=3, key=jax.random.key(0)).samples.tolist()
    [10.0, 10.0, 10.0]
    """
    contracts.typed_key(key)
    probes = (_probe(operator, k) for k in _keys(key, num_probes))
    samples = np.array([np.vdot(np.float64(v), np.float64(operator.product(v))) for v in probes])
    spread = samples.std(ddof=1) if num_probes > 1 else np.nan
    error = np.maximum(spread / np.sqrt(num_probes), operator.size * _operator.unresolved(operator))
    return Trace(float(samples.mean()), float(error), samples)


@host.only
def density(
    operator: Operator, *, order: int, num_probes: int, key: Array, width: float | None = None
) -> Density:
    """The density of the eigenvalues, by stochastic Lanczos quadrature.

    Each probe gives a Gauss quadrature rule of K nodes: its first 2K moments are those of
    the spectrum weighted by the probe. The mean over the probes of the rules' means is the trace
    over P, equal up to rounding to that of `trace` with the same key and number of probes.

    Args:
      operator: a symmetric matrix.
      order: K, the number of products per probe, 1 … P.
      num_probes: S, at least 1.
      key: typed PRNG key.
      width: positive, the standard deviation of the Gaussian that smooths the nodes; None
        for 1 % of the largest magnitude of a node (0.01 if all are zero).

    Returns:
      `Density`; NaN throughout where a product is not finite.

    Raises:
      ValueError: at call, for an order, number of probes or width out of range.

    Cost: S·K products. Memory: K·P numbers on the host.
    References: Ghorbani, Krishnan, Xiao 2019, "An investigation into neural net optimization
      via Hessian eigenvalue density", who take K = 90 and S = 10; Ubaru, Chen, Saad 2017,
      "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature".

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return inputs @ params["w"]
    >>> inputs = jnp.diag(jnp.array([1.0, 1.0, 2.0, 3.0]))  # the Hessian: diag(1, 1, 4, 9) / 2
    >>> stream = streams.from_arrays(inputs, jnp.zeros(4), batch_size=4)
    >>> matrix = landscape.hessian(apply_fn, metrics.squared_error, {"w": jnp.ones(4)}, stream)
    >>> found = landscape.density(matrix, order=3, num_probes=1, key=jax.random.key(0))
    >>> sorted(zip(found.nodes[0].round(3).tolist(), found.weights[0].round(3).tolist()))
    [(0.5, 0.5), (2.0, 0.25), (4.5, 0.25)]
    """
    contracts.typed_key(key)
    _check_order(operator, order)
    if width is not None and not 0 < width < np.inf:
        raise ValueError(f"expected a positive finite width, got {width}")
    rules = []
    for k in _keys(key, num_probes):
        nodes, mixes = _ritz(tridiagonal(operator.product, _probe(operator, k), order))
        rules.append((nodes, mixes[0] ** 2))
    nodes, weights = (np.stack(column) for column in zip(*rules, strict=True))
    if width is None:
        width = 0.01 * (float(np.abs(nodes).max()) or 1.0)
    return _smooth(nodes, weights, float(np.maximum(width, _operator.unresolved(operator))))


def _smooth(nodes: np.ndarray, weights: np.ndarray, width: float) -> Density:
    ends = nodes.min() - _TAIL * width, nodes.max() + _TAIL * width
    edges = np.linspace(*ends, CELLS + 1)
    below = np.zeros(CELLS + 1)
    for node, weight in zip(nodes.ravel(), weights.ravel(), strict=True):
        below += weight * special.ndtr((edges - node) / width)
    return Density(nodes, weights, edges, np.diff(below / len(nodes)) / np.diff(edges), width)


def _ritz(found: Tridiagonal) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues of the tridiagonal matrix, decreasing, and its eigenvectors as columns."""
    inner = found.off_diagonal[:-1]
    matrix = np.diag(found.diagonal) + np.diag(inner, 1) + np.diag(inner, -1)
    if not np.isfinite(matrix).all():
        return np.full(len(matrix), np.nan), np.full_like(matrix, np.nan)
    values, vectors = np.linalg.eigh(matrix)
    return values[::-1], vectors[:, ::-1]


def _probe(operator: Operator, key: Array) -> Float[Array, " P"]:
    """A vector of random signs."""
    like = jnp.zeros(operator.size, operator.dtype)
    return stochtrace.sampler_signs(like, num=1)(key)[0]


def _keys(key: Array, num_probes: int) -> Array:
    if num_probes < 1:
        raise ValueError(f"expected num_probes of at least 1, got {num_probes}")
    return jax.random.split(key, num_probes)


def _check_order(operator: Operator, order: int) -> None:
    if not 1 <= order <= operator.size:
        raise ValueError(
            f"expected an order in 1 … {operator.size}, the number of parameters that vary, "
            f"got {order}"
        )
