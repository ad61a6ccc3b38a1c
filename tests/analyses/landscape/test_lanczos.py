"""Eigenvalues, trace and density of matrices that are known."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matfree import decomp

from tlx.analyses.landscape import _lanczos, curvature

KEY = jax.random.key(3)
P = 60


def _of(matrix):
    """The operator of a matrix."""
    matrix = np.asarray(matrix)
    return curvature.Operator(
        lambda v: matrix @ v, len(matrix), matrix.dtype, lambda v: v, jnp.asarray
    )


@pytest.fixture(scope="module")
def matrix():
    """A spectrum like a net's: a kernel, a bulk, a few outliers, some below zero."""
    values = np.concatenate(
        [np.zeros(20), np.linspace(0, 0.2, 32), [-0.3, -0.1, 0.5, 1, 1, 2, 3, 5]]
    )
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((P, P)))[0]
    return ((basis * values) @ basis.T).astype(np.float32)


@st.composite
def _spectra(draw):
    """Symmetric matrices, repeated eigenvalues and kernels among them."""
    size = draw(st.sampled_from([1, 2, 9]))
    value = st.sampled_from([-2.0, 0.0, 1.0, 1.5, 30.0])
    values = draw(st.lists(value, min_size=size, max_size=size))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    basis = np.linalg.qr(rng.standard_normal((len(values),) * 2))[0]
    return (basis * np.array(values)) @ basis.T, np.sort(values)[::-1]


@given(spectrum=_spectra())
def test_lanczos_laws(spectrum):
    matrix, values = spectrum
    operator = _of(matrix.astype(np.float32))
    for order in {1, (len(values) + 1) // 2, len(values)}:
        start = np.random.default_rng(1).standard_normal(len(values)).astype(np.float32)
        basis = _lanczos.tridiagonal(operator.product, start, order).basis
        np.testing.assert_allclose(basis @ basis.T, np.eye(order), atol=2e-6)
        found = curvature.eigenvalues(operator, order=order, key=KEY)
        assert found.values[0] <= values[0] + 1e-4
        assert found.values[-1] >= values[-1] - 1e-4
        apart = np.abs(found.values[:, None] - values[None]).min(1)
        assert (apart <= found.residuals + 1e-4).all()
    np.testing.assert_allclose(found.values, values, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_multiples_of_the_identity(value):
    operator = _of(value * np.eye(6, dtype=np.float32))
    found = curvature.eigenvalues(operator, order=6, key=KEY, num_vectors=6)
    np.testing.assert_allclose(found.values, value, atol=1e-6)
    density = curvature.density(operator, order=3, num_probes=2, key=KEY)
    np.testing.assert_allclose(density.nodes, value, atol=1e-6)
    assert density.width == pytest.approx(0.01)
    assert curvature.trace(operator, num_probes=1, key=KEY).value == 6 * value


def test_lanczos_agrees_with_another_implementation(matrix):
    start = jax.random.normal(KEY, (P,))
    matrix = jnp.asarray(matrix)
    expected = decomp.tridiag_sym(12, custom_vjp=False)(lambda v: matrix @ v, start)
    got = _lanczos.tridiagonal(lambda v: matrix @ v, start, 12)
    np.testing.assert_allclose(got.diagonal, np.diag(expected.J_small), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        got.off_diagonal[:-1], np.diag(expected.J_small, 1), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1e-12, 1e19, 1e30, 1e36])
def test_a_multiple_of_the_matrix_has_that_multiple_of_everything(scale):
    size, unresolved = 20, 1e-31
    operator = _of(np.diag(np.float32(np.arange(1, size + 1) * scale)))
    found = curvature.eigenvalues(operator, order=size, key=KEY)
    np.testing.assert_allclose(found.values, np.arange(size, 0, -1) * scale, rtol=1e-5)
    assert (found.residuals <= 1e-5 * scale + unresolved).all()
    few = curvature.eigenvalues(operator, order=6, key=KEY)
    apart = np.abs(few.values[:, None] - np.arange(1, size + 1)[None] * scale).min(1)
    assert (apart <= few.residuals * (1 + 1e-5)).all()
    assert (few.residuals > 1e-4 * scale).any()
    trace = curvature.trace(operator, num_probes=3, key=KEY)
    np.testing.assert_allclose(trace.samples, 210 * scale, rtol=1e-5)
    density = curvature.density(operator, order=size, num_probes=1, key=KEY)
    np.testing.assert_allclose(np.sort(density.nodes[0]), np.arange(1, 21) * scale, rtol=1e-5)
    np.testing.assert_allclose((density.density * np.diff(density.edges)).sum(), 1, atol=1e-6)


def test_what_left_the_range_of_the_dtype_is_told():
    operator = _of(np.diag(np.float32([1e-36, 1e-40, 0])))
    found = curvature.eigenvalues(operator, order=3, key=KEY)
    assert (found.residuals > 1e-32).all()
    assert curvature.trace(operator, num_probes=2, key=KEY).standard_error > 1e-32
    assert curvature.density(operator, order=2, num_probes=1, key=KEY).width > 1e-32


def test_memory_of_lanczos_is_its_basis():
    size, order = 100_000, 90
    diagonal = np.linspace(0, 1, size, dtype=np.float32)
    operator = curvature.Operator(
        lambda v: diagonal * v, size, np.dtype(np.float32), lambda v: v, lambda v: v
    )
    tracemalloc.start()
    try:
        found = curvature.eigenvalues(operator, order=order, key=KEY)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.1 * order * size * 4
    assert 0.99 < found.values[0] <= 1.0001


def test_trace_of_a_diagonal_matrix_is_exact():
    operator = _of(np.diag(np.float32([3, -1, 0, 5])))
    got = curvature.trace(operator, num_probes=3, key=KEY)
    np.testing.assert_array_equal(got.samples, 7)
    assert got.value == 7
    assert got.standard_error < 1e-29
    assert np.isnan(curvature.trace(operator, num_probes=1, key=KEY).standard_error)


def test_the_error_of_a_trace_is_that_of_the_mean_of_its_samples(matrix):
    got = curvature.trace(_of(matrix), num_probes=5, key=KEY)
    np.testing.assert_allclose(got.standard_error, got.samples.std(ddof=1) / np.sqrt(5))


def test_trace_is_right_within_its_error(matrix):
    got = curvature.trace(_of(matrix), num_probes=200, key=KEY)
    assert got.samples.shape == (200,)
    assert abs(got.value - np.trace(matrix)) < 3 * got.standard_error
    off = matrix - np.diag(np.diag(matrix))
    np.testing.assert_allclose(got.standard_error, np.sqrt(2 * (off**2).sum() / 200), rtol=0.15)


@pytest.mark.parametrize("width", [None, 1e-4, 3.0])
def test_density_laws(matrix, width):
    operator = _of(matrix)
    got = curvature.density(operator, order=20, num_probes=4, key=KEY, width=width)
    assert got.nodes.shape == got.weights.shape == (4, 20)
    assert (got.weights >= 0).all()
    np.testing.assert_allclose(got.weights.sum(1), 1, rtol=1e-6)
    assert (got.density >= 0).all()
    np.testing.assert_allclose((got.density * np.diff(got.edges)).sum(), 1, atol=1e-6)
    if width is None:
        assert got.width == pytest.approx(0.01 * np.abs(got.nodes).max())
    trace = curvature.trace(operator, num_probes=4, key=KEY)
    mean = (got.nodes * got.weights).sum(1).mean()
    np.testing.assert_allclose(mean, trace.value / P, rtol=1e-4)
    second = (got.nodes**2 * got.weights).sum(1).mean()
    np.testing.assert_allclose(second, (matrix**2).sum() / P, rtol=0.4)
    middles = (got.edges[1:] + got.edges[:-1]) / 2
    cell = np.diff(got.edges)[0]
    smooth = (got.density * np.diff(got.edges) * middles).sum()
    np.testing.assert_allclose(smooth, mean, atol=cell)


def test_density_of_many_probes_is_the_spectrum(matrix):
    values = np.linalg.eigvalsh(np.float64(matrix))
    width = 0.05 * values[-1]
    operator = _of(matrix)
    got = curvature.density(operator, order=30, num_probes=100, key=KEY, width=width)
    middles = (got.edges[1:] + got.edges[:-1]) / 2
    bells = np.exp(-(((middles[:, None] - values) / width) ** 2) / 2)
    expected = bells.mean(1) / (width * np.sqrt(2 * np.pi))
    assert np.abs(got.density - expected).max() < 0.1 * expected.max()


ERRORS = {
    "order 0": (
        lambda: curvature.eigenvalues(_of(np.eye(3)), order=0, key=KEY),
        "expected an order in 1 … 3, the number of parameters that vary, got 0",
    ),
    "an order above P": (
        lambda: curvature.density(_of(np.eye(3)), order=4, num_probes=1, key=KEY),
        "expected an order in 1 … 3",
    ),
    "vectors above the order": (
        lambda: curvature.eigenvalues(_of(np.eye(3)), order=2, key=KEY, num_vectors=3),
        "expected num_vectors in 0 … 2, the order, got 3",
    ),
    "no probes": (
        lambda: curvature.trace(_of(np.eye(3)), num_probes=0, key=KEY),
        "expected num_probes of at least 1, got 0",
    ),
    "a width of 0": (
        lambda: curvature.density(_of(np.eye(3)), order=1, num_probes=1, key=KEY, width=0),
        "expected a positive finite width, got 0",
    ),
    "a zero start": (
        lambda: _lanczos.tridiagonal(lambda v: v, np.zeros(3, np.float32), 1),
        "expected a start vector of positive finite norm, got norm 0.0",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        call()
