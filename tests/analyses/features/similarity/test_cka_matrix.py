import itertools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import features, oracles
from tlx.analyses.features.similarity import _cka_sums, cka, cka_matrix, kernels
from tlx.core import streams

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "similarity.json").read_text())
ESTIMATORS = ("debiased", "biased")
TOLERANCE = 1e-4


def first_ten(params, inputs):
    return {"z": inputs[:, :10]}


def the_rest(params, inputs):
    return {"z": inputs[:, 10:]}


def three_layers(params, inputs):
    xp = np if isinstance(inputs, np.ndarray) else jnp  # of oracles nothing is compiled
    hidden = xp.tanh(inputs @ params["first"])
    return {
        "input": inputs.reshape(len(inputs), 2, -1),
        "hidden": hidden.reshape(len(hidden), 3, 2, -1),
        "logits": hidden @ params["second"],
    }


def two_layers(params, inputs):
    return {name: x for name, x in three_layers(params, inputs).items() if name != "input"}


def _params(seed):
    rng = np.random.default_rng(seed)
    shapes = {"first": (10, 12), "second": (12, 2)}
    return {k: np.float32(rng.standard_normal(v)) for k, v in shapes.items()}


def _inputs(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 10)).astype(np.float32)


def _matrix(inputs, batch_size, params=(0, 1), function=three_layers, **options):
    stream = streams.from_arrays(inputs, batch_size=batch_size)
    x, y = (_params(seed) for seed in params)
    return cka_matrix.cka_matrix(function, x, function, y, stream, **options)


def _masked(inputs, mask):
    """A stream of one batch like those of `_matrix`, with which it shares what is compiled."""
    (batch,) = streams.from_arrays(inputs, batch_size=len(inputs))()
    return lambda: iter([batch | {"mask": mask}])


def _expected(inputs, batch_size, estimator, params=(0, 1)):
    batches = [inputs[i : i + batch_size] for i in range(0, len(inputs), batch_size)]
    fx, fy = (
        [jax.tree.map(np.float64, three_layers(_params(s), b)) for b in batches] for s in params
    )
    names = ("input", "hidden", "logits")
    return np.array(
        [
            [
                oracles.minibatch_cka(
                    [(u[i], v[j]) for u, v in zip(fx, fy, strict=True)], estimator
                )
                for j in names
            ]
            for i in names
        ]
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("offset", [10, 30, 100])
@pytest.mark.parametrize("rows", [100, 12])
def test_an_offset_changes_nothing_in_float32(estimator, offset, rows):
    x, y = (z[:rows] for z in features.reference_input())
    moved = np.float32(np.concatenate([x + offset * x.std(), y + offset * y.std()], 1))
    stream = streams.from_arrays(moved, batch_size=rows)
    got = cka_matrix.cka_matrix(first_ten, {}, the_rest, {}, stream, estimator=estimator)
    np.testing.assert_allclose(got.values[0, 0], oracles.cka(x, y, estimator), atol=TOLERANCE)


@pytest.mark.parametrize("batch_size", [20, 25, 50, 100])
def test_reference_minibatch_values(batch_size):
    x, y = features.reference_input()
    stream = streams.from_arrays(np.float32(np.concatenate([x, y], 1)), batch_size=batch_size)
    got = cka_matrix.cka_matrix(first_ten, {}, the_rest, {}, stream)
    expected = GOLDEN["minibatch_debiased_cka_consecutive_batches"][str(batch_size)]
    assert abs(got.values[0, 0] - expected) < 1e-6


def test_reference_minibatch_value_in_float64():
    with jax.enable_x64(True):
        stream = streams.from_arrays(np.concatenate(features.reference_input(), 1), batch_size=20)
        got = np.asarray(cka_matrix.cka_matrix(first_ten, {}, the_rest, {}, stream).values)
    expected = GOLDEN["minibatch_debiased_cka_consecutive_batches"]["20"]
    assert got.dtype == np.float64
    assert abs(got[0, 0] - expected) < 1e-11


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("batch_size", [16, 17, 50, 64])
def test_all_pairs_are_the_formula(estimator, batch_size):
    inputs = _inputs(50)  # the last batch of 16 has 2 rows, of 17 has 16
    got = _matrix(inputs, batch_size, estimator=estimator)
    assert got.layers_x == got.layers_y == ("input", "hidden", "logits")
    expected = _expected(inputs, batch_size, estimator)
    np.testing.assert_allclose(got.values, expected, atol=2e-5)
    np.testing.assert_array_equal(got.values, getattr(got, estimator))
    left_out = 2 if batch_size == 16 else 0
    assert (int(got.num_examples), int(got.num_left_out)) == (50 - left_out, left_out)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_one_batch_is_linear_cka(estimator):
    inputs = _inputs(50)
    got = _matrix(inputs, 50, estimator=estimator).values
    x, y = (three_layers(_params(seed), inputs) for seed in (0, 1))
    for i, name in enumerate(x):
        expected = cka.cka(x[name], y[name], estimator=estimator)
        np.testing.assert_allclose(got[i, i], expected, atol=1e-5)


def test_a_model_with_itself_is_symmetric_and_computed_once():
    inputs = _inputs(30)
    params = _params(0)
    stream = streams.from_arrays(inputs, batch_size=16)
    traced = []

    def counted(params, inputs):
        traced.append(1)
        return three_layers(params, inputs)

    got = cka_matrix.cka_matrix(counted, params, counted, params, stream).values
    assert len(traced) == 3  # once for the names, once for the checks, once for the numbers
    np.testing.assert_allclose(got, got.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(got), 1, atol=1e-6)
    of_two = _matrix(inputs, 16, params=(0, 0)).values  # equal parameters, not the same ones
    np.testing.assert_allclose(got, of_two, atol=1e-6)


def test_exchanging_the_models_transposes():
    inputs = _inputs(40)
    got, back = _matrix(inputs, 16), _matrix(inputs, 16, params=(1, 0))
    np.testing.assert_allclose(got.values, back.values.T, atol=1e-6)


def test_masked_rows_change_nothing_whatever_they_hold():
    inputs = _inputs(25)
    mask = np.array([True, False] * 25)
    padded = np.full((50, 10), np.nan, np.float32)
    padded[mask] = inputs
    padded[np.flatnonzero(~mask)[3:]] = np.inf
    x, y = _params(0), _params(1)
    got = cka_matrix.cka_matrix(three_layers, x, three_layers, y, _masked(padded, mask))
    np.testing.assert_allclose(got.values, _matrix(inputs, 50).values, atol=1e-6)
    assert int(got.num_examples) == 25


def test_a_first_row_that_is_masked():
    inputs = _inputs(16)
    stream = _masked(inputs, np.array([False] * 3 + [True] * 13))
    x, y = _params(0), _params(1)
    got = cka_matrix.cka_matrix(three_layers, x, three_layers, y, stream)
    np.testing.assert_allclose(got.values, _matrix(inputs[3:], 16).values, atol=1e-6)


def _states(metric, scales):
    rng = np.random.default_rng(0)
    update = jax.jit(metric.update)
    states = []
    for rows, scale in scales:
        z = scale * rng.standard_normal((12, 7))
        mask = np.arange(12) < rows
        features = {"a": np.float32(z[:, :3]), "b": np.float32(z[:, 2:])}
        batch = {"inputs": np.float32(z), "mask": mask}
        states.append(update(metric.init(), (features, features), batch))
    return states


def test_streaming_is_a_monoid():
    options = _cka_sums.Options(kernels.linear(), "flatten")
    metric = _cka_sums.metric(("a", "b"), ("b", "a"), options)
    metric = metric._replace(merge=jax.jit(metric.merge))
    states = _states(metric, [(12, 1.0), (3, 1.0), (7, 1e-3), (12, 30.0), (4, 1.0)])
    results = []
    for order in itertools.islice(itertools.permutations(range(5)), 0, 120, 17):
        total = metric.init()
        for i in order:
            total = metric.merge(total, states[i])
        results.append(metric.compute(total))
    left = metric.merge(metric.merge(states[0], states[1]), metric.merge(states[2], states[3]))
    results.append(metric.compute(metric.merge(states[4], left)))
    for other in results[1:]:
        jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, atol=1e-6), results[0], other)
    assert int(results[0]["count"]) == 35
    assert int(results[0]["left_out"]) == 3
    for state in states:
        same = metric.merge(metric.init(), state)
        jax.tree.map(np.testing.assert_array_equal, same, metric.merge(state, metric.init()))
        jax.tree.map(np.testing.assert_array_equal, metric.compute(same), metric.compute(state))


def scaled(params, inputs):
    return {k: params["scale"] * v for k, v in three_layers(params, inputs).items()}


@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6, 1e15])
def test_no_scale_over_or_underflows(scale):
    inputs = _inputs(40)
    stream = streams.from_arrays(inputs, batch_size=16)
    x, y = _params(0) | {"scale": np.float32(scale)}, _params(1)
    got = cka_matrix.cka_matrix(scaled, x, three_layers, y, stream)
    np.testing.assert_allclose(got.values, _matrix(inputs, 16).values, atol=1e-5)


def test_constant_layers_are_not_numbers_and_leave_the_others():
    inputs = _inputs(40)
    stream = streams.from_arrays(inputs, batch_size=16)

    def with_dead_layer(params, inputs):
        dead = jnp.broadcast_to(jnp.linspace(0.1, 0.7, 5)[None], (len(inputs), 5))
        return {"dead": dead, "input": inputs}

    got = cka_matrix.cka_matrix(with_dead_layer, {}, with_dead_layer, {}, stream)
    for values in (got.debiased, got.biased):
        np.testing.assert_array_equal(np.isnan(values), [[True, True], [True, False]])


def test_no_usable_batch_is_no_data():
    got = _matrix(_inputs(3), 16)
    assert np.isnan(got.values).all()
    assert (int(got.num_examples), int(got.num_left_out)) == (0, 3)


def test_the_stream_is_read_once():
    passes = []
    inner = streams.from_arrays(_inputs(40), batch_size=16)

    def counted():
        passes.append(1)
        return inner()

    cka_matrix.cka_matrix(three_layers, _params(0), three_layers, _params(1), counted)
    assert len(passes) == 1


def test_the_order_of_layers_survives_jit():
    from collections import OrderedDict

    def ordered(params, inputs):
        return OrderedDict([("z", inputs), ("a", inputs[:, :2])])

    stream = streams.from_arrays(_inputs(20), batch_size=10)
    for function in (ordered, jax.jit(ordered)):
        assert cka_matrix.cka_matrix(function, {}, function, {}, stream).layers_x == ("z", "a")


@pytest.mark.parametrize(
    ("function", "batch_size", "error", "message"),
    [
        (three_layers, 3, ValueError, "expected batches of at least 4 rows, got 3"),
        (lambda p, x: x, 8, TypeError, "expected a feature function to return a mapping"),
        (lambda p, x: {}, 8, ValueError, "expected feature_fn_x to return at least one layer"),
        (
            lambda p, x: {"ok": x, "mean": x.mean(0)},
            8,
            ValueError,
            r"each layer of feature_fn_x as \[B, ...\] with B = 8, got mean \(10,\)",
        ),
    ],
)
def test_matrix_refuses(function, batch_size, error, message):
    stream = streams.from_arrays(_inputs(20), batch_size=batch_size)
    with pytest.raises(error, match=message):
        cka_matrix.cka_matrix(function, _params(0), three_layers, _params(1), stream)


def test_matrix_refuses_an_unknown_estimator_and_an_empty_stream():
    with pytest.raises(ValueError, match="unknown estimator 'hsic'"):
        _matrix(_inputs(20), 10, estimator="hsic")
    with pytest.raises(ValueError, match="expected a stream with at least one batch, got none"):
        _matrix(_inputs(0), 10)


# Evidence


def _wide_pair(n, dims, share, seed=0):
    """Features of which a share is common to both; inputs for `halves`."""
    rng = np.random.default_rng(seed)
    common, x, y = rng.standard_normal((3, n, dims))
    mixed = [share * common + (1 - share) * z for z in (x, y)]
    return np.concatenate(mixed, 1).astype(np.float32)


def first_half(params, inputs):
    return {"z": inputs[:, : inputs.shape[1] // 2]}


def second_half(params, inputs):
    return {"z": inputs[:, inputs.shape[1] // 2 :]}


def _halves(inputs, batch_size, **options):
    stream = streams.from_arrays(inputs, batch_size=batch_size)
    return cka_matrix.cka_matrix(first_half, {}, second_half, {}, stream, **options)


@pytest.mark.parametrize("batch_size", [20, 40])
def test_z_and_chance_are_those_of_permutations_within_batches(batch_size):
    inputs = _wide_pair(40, 6, 0.3)
    got = _halves(inputs, batch_size)
    rng = np.random.default_rng(1)
    starts = np.arange(0, 40, batch_size)
    x, y = np.float64(inputs[:, :6]), np.float64(inputs[:, 6:])

    def values(order, estimator):
        rows = [slice(s, s + batch_size) for s in starts]
        return oracles.minibatch_cka([(x[r], y[order][r]) for r in rows], estimator)

    orders = [
        np.concatenate([s + rng.permutation(batch_size) for s in starts]) for _ in range(1500)
    ]
    debiased, biased = (np.array([values(o, e) for o in orders]) for e in ESTIMATORS)
    in_order = values(np.arange(40), "debiased")
    np.testing.assert_allclose(got.chance[0, 0], biased.mean(), rtol=0.02)
    np.testing.assert_allclose(got.z[0, 0], in_order / debiased.std(), rtol=0.1)
    assert abs(debiased.mean()) < 4 * debiased.std() / np.sqrt(1500)


def test_z_of_one_batch_is_the_value_in_closed_form():
    got = _halves(_wide_pair(24, 30, 0.5), 24)
    np.testing.assert_allclose(got.z, got.debiased * np.sqrt(24 * 21 / 2), rtol=1e-5)


@pytest.mark.parametrize(
    ("n", "estimator", "too_few"),
    [(28, "debiased", True), (32, "debiased", False), (64, "biased", True)],
)
def test_too_few_examples_are_told(n, estimator, too_few):
    got = _halves(_wide_pair(n, 20, 0.5), 64, estimator=estimator)
    assert bool(got.too_few[0, 0]) is too_few


def test_enough_examples_for_the_biased_value():
    assert not _halves(_wide_pair(256, 2, 0.5), 256, estimator="biased").too_few[0, 0]


def test_the_bootstrap_is_the_weighted_statistic():
    inputs = _inputs(30)
    key = jax.random.key(3)
    stream = streams.from_arrays(inputs, batch_size=16)
    x, y = _params(0), _params(1)
    options = _cka_sums.Options(kernels.linear(), "flatten")
    options = options._replace(num_resamples=50, key_kind=str(jax.random.key_impl(key)))
    stream = cka_matrix._with_key(stream, key)
    batches = list(stream())
    counts = [np.asarray(_cka_sums._counts(b, b["mask"], options), np.float64) for b in batches]
    assert set(np.unique(counts[0])) <= set(range(8))
    names = ("input", "hidden", "logits")
    metric = _cka_sums.metric(names, names, options)
    pair = cka_matrix.Pair(three_layers, three_layers)
    got = cka_matrix.evaluate(pair, metric, (x, y), stream)["resampled"]
    sums = np.zeros((50, 3))
    for batch, count in zip(batches, counts, strict=True):
        rows = batch["mask"]
        u, v = (
            np.float64(three_layers(p, batch["inputs"])["hidden"])[rows].reshape(rows.sum(), -1)
            for p in (x, y)
        )
        k, l_ = (oracles.u_centred(z @ z.T) for z in (u, v))
        for r, c in enumerate(count[rows].T):
            weights = np.outer(c, c)
            sums[r] += [(weights * m).sum() for m in (k * l_, k * k, l_ * l_)]
    np.testing.assert_allclose(
        got[:, 1, 1], sums[:, 0] / np.sqrt(sums[:, 1] * sums[:, 2]), rtol=1e-4
    )


def test_examples_are_drawn_as_often_as_poisson_says():
    key = jax.random.key(0)
    options = _cka_sums.Options(kernels.linear(), "flatten")
    options = options._replace(num_resamples=200, key_kind=str(jax.random.key_impl(key)))
    stream = cka_matrix._with_key(streams.from_arrays(np.zeros((500, 1)), batch_size=500), key)
    (batch,) = stream()
    counts = np.asarray(_cka_sums._counts(batch, batch["mask"], options))
    shares = [(counts == k).mean() for k in range(6)]
    expected = [math.exp(-1) / math.factorial(k) for k in range(6)]
    np.testing.assert_allclose(shares, expected, atol=0.006)  # four standard errors
    np.testing.assert_allclose(counts.mean(), 1, atol=0.013)


def test_the_interval_depends_on_the_key_alone():
    inputs = _inputs(48)
    stream = streams.from_arrays(inputs, batch_size=16)
    x, y = _params(0), _params(1)

    def interval(stream, key):
        found = cka_matrix.cka_matrix(
            three_layers, x, three_layers, y, stream, num_resamples=50, key=key
        )
        return np.stack([found.low, found.debiased, found.high])

    one = interval(stream, jax.random.key(0))
    assert (one[0] < one[1]).ravel()[1:].all()  # the inputs with themselves are at 1
    assert (one[1] < one[2]).ravel()[1:].all()
    turned = interval(lambda: iter(list(stream())[::-1]), jax.random.key(0))
    np.testing.assert_allclose(one, turned, atol=1e-6)
    assert np.abs(one - interval(stream, jax.random.key(1))).max() > 1e-4


def test_no_resamples_is_no_interval():
    found = _matrix(_inputs(20), 16)
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_resamples": -1}, "expected num_resamples of 0 or more, got -1"),
        ({"num_resamples": 5}, "typed key for the bootstrap"),
        ({"num_resamples": 5, "spatial": "positions"}, "for the bootstrap, got 'positions'"),
        ({"spatial": "pooled"}, "unknown spatial 'pooled'; did you mean 'pool'"),
        ({"confidence": 95}, "expected a confidence between 0 and 1, got 95"),
        ({"kernel": kernels.rbf(), "estimator": "feature_corrected"}, "expected the linear kernel"),
    ],
)
def test_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _matrix(_inputs(20), 10, **options)


def test_the_bootstrap_needs_the_number_of_each_example():
    stream = lambda: iter([{"inputs": _inputs(8)}])  # noqa: E731
    with pytest.raises(ValueError, match=r"batches with 'index' .* for the bootstrap"):
        cka_matrix.cka_matrix(
            three_layers, _params(0), three_layers, _params(1), stream,
            num_resamples=5, key=jax.random.key(0),
        )  # fmt: skip


# Kernels, sampled features, positions


@pytest.mark.parametrize("kernel", [kernels.rbf(), kernels.cosine(), kernels.distance()])
def test_other_kernels_stream(kernel):
    inputs = _inputs(60)
    got = _matrix(inputs[:30], 30, function=two_layers, kernel=kernel)
    x, y = (two_layers(_params(seed), inputs[:30]) for seed in (0, 1))
    expected = cka.cka(x["hidden"], y["logits"], kernel=kernel)
    np.testing.assert_allclose(got.values[0, 1], expected, atol=1e-5)
    assert got.kernel == kernel.name
    in_batches = _matrix(inputs, 30, function=two_layers, kernel=kernel)
    assert int(in_batches.num_examples) == 60
    assert np.abs(in_batches.values - got.values).max() < 0.3


def test_feature_corrected_streams():
    inputs = _wide_pair(60, 12, 0.6)
    got = _halves(inputs, 60, estimator="feature_corrected")
    expected = cka.cka(inputs[:, :12], inputs[:, 12:], estimator="feature_corrected")
    np.testing.assert_allclose(got.values[0, 0], expected, rtol=1e-4)
    for scale in (1e-9, 1e9):
        scaled = _halves(np.float32(scale) * inputs, 20, estimator="feature_corrected")
        plain = _halves(inputs, 20, estimator="feature_corrected")
        np.testing.assert_allclose(scaled.values, plain.values, rtol=1e-4)


def images(params, inputs):
    """Layers [B, 2, 2, 3], [B, 2, 2, 2], [B, 5, 2] and [B, 4]."""
    xp = np if isinstance(inputs, np.ndarray) else jnp
    return {
        "conv": inputs[:, :12].reshape(-1, 2, 2, 3),
        "next": xp.tanh(params * inputs[:, 4:12]).reshape(-1, 2, 2, 2),
        "tokens": inputs[:, :10].reshape(-1, 5, 2),
        "logits": inputs[:, 8:12],
    }


def _spatial(layer, how):
    if how == "flatten" or layer.ndim < 3:
        return layer.reshape(len(layer), -1)
    middle = layer.reshape(len(layer), -1, layer.shape[-1])
    return middle.mean(1) if how == "pool" else middle.reshape(-1, layer.shape[-1])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("how", "batch_size"), [("flatten", 30), ("pool", 8), ("positions", 8), ("positions", 30)]
)
def test_positions_are_what_was_asked_for(how, batch_size, estimator):
    inputs = np.random.default_rng(0).standard_normal((30, 12)).astype(np.float32)
    stream = streams.from_arrays(inputs, batch_size=batch_size)
    x, y = np.float32(1.0), np.float32(2.0)
    got = cka_matrix.cka_matrix(images, x, images, y, stream, spatial=how, estimator=estimator)
    assert got.spatial == how
    assert int(got.num_examples) == 30  # the last batch of 8 has 6
    starts = range(0, 30, batch_size)
    names = got.layers_x
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            pairs = [
                [
                    np.float64(_spatial(np.asarray(images(p, inputs[s : s + batch_size])[n]), how))
                    for p, n in ((x, a), (y, b))
                ]
                for s in starts
            ]
            if len(pairs[0][0]) != len(pairs[0][1]):
                assert np.isnan(got.values[i, j])
                assert got.too_few[i, j]
                continue
            expected = oracles.minibatch_cka(pairs, estimator)
            np.testing.assert_allclose(got.values[i, j], expected, atol=3e-5)


KERNELS = [
    kernels.linear(),
    kernels.cosine(),
    kernels.rbf(),
    kernels.polynomial(),
    kernels.distance(),
]


def one_layer(params, inputs):
    return {"conv": jnp.tanh(params * inputs).reshape(-1, 2, 2, 3)}


@pytest.mark.parametrize(
    ("kernel", "how"),
    [*((kernel, "positions") for kernel in KERNELS), (KERNELS[2], "pool")],
    ids=lambda option: getattr(option, "name", option),
)
def test_masked_rows_change_nothing_for_any_kernel(kernel, how):
    inputs = np.random.default_rng(0).standard_normal((6, 12)).astype(np.float32)
    padded = np.full((9, 12), np.nan, np.float32)
    mask = np.array([0, 1, 1, 0, 1, 1, 1, 1, 0], bool)
    padded[mask] = inputs
    padded[0] = np.inf
    x, y = np.float32(1.0), np.float32(2.0)
    batches = {"inputs": padded, "mask": mask}, {"inputs": inputs}
    got, expected = (
        cka_matrix.cka_matrix(
            one_layer, x, one_layer, y, lambda b=b: iter([b]), kernel=kernel, spatial=how
        )
        for b in batches
    )
    assert np.isfinite(expected.debiased).any()
    for name in ("debiased", "biased", "chance", "z"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), atol=1e-5)


@pytest.mark.parametrize("kernel", [kernels.linear(), kernels.cosine(), kernels.distance()])
def test_batches_of_other_scales_add_up(kernel):
    """Each batch is scaled by its own power of two, and the sums are not."""
    inputs = _wide_pair(24, 30, 0.5)
    inputs[:8] *= 37
    inputs[8:16] *= 1e-3
    got = _halves(inputs, 8, kernel=kernel)
    with jax.enable_x64(True):
        sums = np.zeros(3)
        for start in range(0, 24, 8):
            z = np.float64(inputs[start : start + 8])
            k, l_ = (_plain_gram(kernel.name, part) for part in (z[:, :30], z[:, 30:]))
            k, l_ = oracles.u_centred(k), oracles.u_centred(l_)
            sums += [(k * l_).sum(), (k * k).sum(), (l_ * l_).sum()]
    np.testing.assert_allclose(got.values[0, 0], sums[0] / np.sqrt(sums[1] * sums[2]), atol=1e-5)


def _plain_gram(name, x):
    if name == "distance":
        return -np.linalg.norm(x[:, None] - x[None], axis=-1)
    if name == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


@pytest.mark.parametrize("kernel", [kernels.linear(), kernels.cosine()])
def test_features_of_low_precision_stream(kernel):
    inputs = jnp.asarray(_wide_pair(16, 30, 0.5), jnp.bfloat16)
    low = cka_matrix.cka_matrix(
        first_half, {}, second_half, {}, lambda: iter([{"inputs": inputs}]), kernel=kernel
    )
    high = _halves(np.asarray(inputs, np.float32), 16, kernel=kernel)
    np.testing.assert_allclose(low.values, high.values, atol=1e-6)
    assert low.values.dtype == jnp.float32


def test_too_few_of_the_corrected_value_is_by_its_own_norms():
    """Where little structure is shared within a set, the corrected norms are small."""
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((2, 200, 1))
    sets = 0.2 * factor + rng.standard_normal((2, 200, 20))
    inputs = np.float32(np.concatenate(list(sets), 1))
    assert not _halves(inputs, 200).too_few[0, 0]
    assert _halves(inputs, 200, estimator="feature_corrected").too_few[0, 0]


def test_positions_are_too_few_by_the_number_of_images():
    inputs = np.random.default_rng(0).standard_normal((40, 12)).astype(np.float32)
    for n, too_few in ((20, True), (40, False)):
        stream = streams.from_arrays(inputs[:n], batch_size=30)
        got = cka_matrix.cka_matrix(
            images, np.float32(1), images, np.float32(2), stream, spatial="positions"
        )
        assert bool(got.too_few[0, 0]) is too_few
        assert np.isnan(got.chance).all()


def test_inputs_are_not_hidden_by_a_layer_of_their_name():
    fn = cka_matrix.with_inputs(three_layers, "input")
    with pytest.raises(
        ValueError, match="without a layer 'input', got one with it; pass another name="
    ):
        cka_matrix.cka_matrix(
            fn, _params(0), fn, _params(1), streams.from_arrays(_inputs(8), batch_size=8)
        )


def test_a_key_that_is_none_is_refused():
    with pytest.raises(TypeError, match=r"a typed PRNG key, such as jax.random.key\(0\), got int"):
        _matrix(_inputs(20), 10, num_resamples=2, key=0)


def test_positions_cannot_be_exchanged_one_by_one():
    stream = streams.from_arrays(np.tile(_inputs(20, 1), 2)[:, :12], batch_size=30)
    got = cka_matrix.cka_matrix(
        images, np.float32(1), images, np.float32(1), stream, spatial="positions"
    )
    assert np.isnan(got.z).all()


@pytest.mark.parametrize("offset", [0, 100])
def test_products_of_features_and_of_examples_are_one_number(offset):
    """Few features of many examples take the other form; resamples force the Gram matrices."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((400, 2))
    inputs = np.float32(
        shared @ rng.standard_normal((2, 6)) + rng.standard_normal((400, 6)) + offset
    )
    stream = streams.from_arrays(inputs, batch_size=200)
    one = cka_matrix.cka_matrix(first_half, {}, second_half, {}, stream)
    other = cka_matrix.cka_matrix(
        first_half, {}, second_half, {}, stream, num_resamples=1, key=jax.random.key(0)
    )
    layers = [(np.zeros((200, 3)), None)]
    assert _cka_sums._by_features(layers, layers, _cka_sums.Options(kernels.linear(), "flatten"))
    for name in ("debiased", "biased", "chance", "z"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-4)


# Less the inputs


def test_deconfounded_is_of_the_three_values():
    inputs = _inputs(40)
    stream = streams.from_arrays(inputs, batch_size=40)
    fn = cka_matrix.with_inputs(three_layers, "given")
    result = cka_matrix.cka_matrix(fn, _params(0), fn, _params(1), stream)
    assert result.layers_x == ("given", "input", "hidden", "logits")
    got = cka_matrix.deconfounded(result, "given")
    x, y = (three_layers(_params(seed), inputs) for seed in (0, 1))
    expected = cka.deconfounded_cka(x["hidden"], y["logits"], inputs)
    np.testing.assert_allclose(got[2, 3], expected, atol=1e-4)
    assert np.isnan(got[0]).all()
    assert np.isnan(got[:, 1]).all()  # the first layer is the inputs, too
    with pytest.raises(ValueError, match="layers_x: unknown layer 'inputs'; did you mean 'input'"):
        cka_matrix.deconfounded(result, "inputs")


def test_a_compiled_metric_is_found_again():
    traced = []

    def counted(params, inputs):
        traced.append(1)
        return three_layers(params, inputs)

    stream = streams.from_arrays(_inputs(20), batch_size=10)
    for seed in range(3):
        cka_matrix.cka_matrix(
            counted, _params(0), counted, _params(1), stream,
            num_resamples=2, key=jax.random.key(seed),
        )  # fmt: skip
    assert len(traced) == 5  # once for the names of both, for the checks and numbers of each


def test_intervals_hold_the_value_of_the_population():
    population = _halves(_wide_pair(4096, 4, 0.5, seed=99), 1024).debiased[0, 0]
    held = 0
    for seed in range(60):
        got = _halves(_wide_pair(64, 4, 0.5, seed), 64, num_resamples=200, key=jax.random.key(seed))
        held += bool(got.low[0, 0] <= population <= got.high[0, 0])
    assert 51 <= held <= 60  # of a binomial with 0.95: outside in 0.1 % of all seeds
