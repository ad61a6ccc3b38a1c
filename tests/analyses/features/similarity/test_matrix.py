import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.analyses.features.similarity import (
    _examples,
    _layer_pairs,
    cca,
    evidence,
    matrix,
    measures,
)
from tlx.analyses.features.similarity._comparison import Comparison, rows
from tlx.core import sharding, streams

N = 50
NAMES = ("input", "hidden", "logits")
# by moments; by rows, not symmetric; by rows, of all pairs of examples
MEASURES = ("cka_debiased", "pwcca", "mutual_knn")


def three_layers(params, inputs):
    hidden = jnp.tanh(inputs @ params["first"])
    return {
        "input": inputs.reshape(len(inputs), 4, 2),
        "hidden": hidden.reshape(len(hidden), 2, 2, 2),
        "logits": hidden @ params["second"],
    }


def _params(seed):
    rng = np.random.default_rng(seed)
    shapes = {"first": (8, 8), "second": (8, 3)}
    return {k: jnp.asarray(rng.standard_normal(v), jnp.float32) for k, v in shapes.items()}


def _inputs(n=N):
    return np.random.default_rng(0).standard_normal((n, 8)).astype(np.float32)


def _matrix(measure, stream, **options):
    return matrix.matrix(
        measure, three_layers, _params(0), three_layers, _params(1), stream, **options
    )


def _expected(measure, inputs, arrange=lambda z: z):
    """The measure of each pair, from all examples at once."""
    x, y = (
        {k: arrange(np.asarray(v)) for k, v in three_layers(_params(s), inputs).items()}
        for s in (0, 1)
    )
    return np.array([[measures.between(measure, x[i], y[j]) for j in NAMES] for i in NAMES])


@pytest.mark.parametrize(
    ("measure", "batch_size"), [*((measure, 16) for measure in MEASURES), ("cka_debiased", 64)]
)
def test_batches_only_carry_the_features(measure, batch_size):
    got = _matrix(measure, streams.from_arrays(_inputs(), batch_size=batch_size))
    np.testing.assert_allclose(got.values, _expected(measure, _inputs()), atol=2e-5)
    assert got.measure == measure
    assert got.layers_x == got.layers_y == NAMES
    assert (got.num_examples, got.spatial) == (N, "flatten")
    assert got.num_examples.dtype == np.int32
    needed = measures.get(measure).needed
    dims = (8, 8, 3)
    assert got.too_few.tolist() == [[needed(a, b) > N for b in dims] for a in dims]


def test_not_all_measures_need_as_many_examples():
    stream = streams.from_arrays(_inputs(), batch_size=16)
    assert _matrix("cka_debiased", stream).too_few.sum() == 0
    assert _matrix("procrustes", stream).too_few.sum() == 4  # where neither is the logits


@pytest.mark.parametrize(
    ("measure", "spatial", "hold"),
    [
        ("cka_biased", "flatten", "moments"),
        ("cka_biased", "pool", "moments"),
        ("pwcca", "flatten", "rows"),
        ("pwcca", "pool", "rows"),
        ("pwcca", "positions", "rows"),
    ],
)
@pytest.mark.parametrize("padding", [np.nan, np.inf])
def test_masked_rows_change_nothing_whatever_they_hold(measure, spatial, hold, padding):
    mask = np.arange(7 * 16) % 2 * (np.arange(7 * 16) < 2 * N) == 1
    padded = np.full((len(mask), 8), padding, np.float32)
    padded[mask] = _inputs()
    parts = [slice(i, i + 16) for i in range(0, len(mask), 16)]
    batches = [{"inputs": padded[part], "mask": mask[part]} for part in parts]
    got = _matrix(measure, lambda: iter(batches), spatial=spatial, hold=hold)
    clean = _matrix(
        measure, streams.from_arrays(_inputs(), batch_size=16), spatial=spatial, hold=hold
    )
    assert np.isfinite(np.diag(got.values)).all()
    np.testing.assert_allclose(got.values, clean.values, atol=2e-5)
    assert got.num_examples == N


def test_masked_positions_by_moments():
    mask = np.arange(64) < N
    padded = np.where(mask[:, None], np.resize(_inputs(), (64, 8)), np.inf).astype(np.float32)
    batches = [{"inputs": padded[i : i + 16], "mask": mask[i : i + 16]} for i in range(0, 64, 16)]
    got = _by_position(lambda: iter(batches))
    clean = _by_position(streams.from_arrays(_inputs(), batch_size=16))
    np.testing.assert_allclose(got.values, clean.values, atol=1e-5)


@pytest.mark.parametrize("measure", MEASURES[::2])
def test_a_mesh_of_devices_gives_the_numbers_of_one(measure):
    mesh = sharding.make_mesh(jax.devices()[:2])
    stream = streams.from_arrays(_inputs(), batch_size=16)
    x, y = (sharding.replicate(_params(seed), mesh) for seed in (0, 1))

    def sharded():
        return (sharding.shard_batch(batch, mesh) for batch in stream())

    got = matrix.matrix(measure, three_layers, x, three_layers, y, sharded)
    np.testing.assert_allclose(got.values, _matrix(measure, stream).values, atol=1e-5)


@pytest.mark.parametrize("measure", ["cka_debiased", "cka_biased", "regression_r2"])
def test_rows_and_moments_are_one_number(measure):
    stream = streams.from_arrays(_inputs(), batch_size=16)
    by_rows, moments = (_matrix(measure, stream, hold=hold) for hold in ("rows", "moments"))
    np.testing.assert_allclose(moments.values, by_rows.values, atol=1e-4)
    assert not np.array_equal(moments.values, by_rows.values)  # they were had in two ways
    form = "rows" if measure == "regression_r2" else "moments"
    by_itself = _matrix(measure, stream, hold="auto").values
    np.testing.assert_array_equal(by_itself, {"rows": by_rows, "moments": moments}[form].values)


def test_a_few_examples_are_kept_as_rows():
    stream = streams.from_arrays(_inputs(30), batch_size=16)  # under four for each of 8 features
    by_itself, by_rows = (_matrix("cka_debiased", stream, hold=hold) for hold in ("auto", "rows"))
    np.testing.assert_array_equal(by_itself.values, by_rows.values)


def test_entry_i_j_is_of_x_i_and_y_j():
    stream = streams.from_arrays(_inputs(), batch_size=16)
    got = _matrix("regression_r2", stream).values
    np.testing.assert_allclose(got, _expected("regression_r2", _inputs()), atol=2e-5)
    assert abs(got[0, 2] - got[2, 0]) > 0.1  # eight features explain three better


@pytest.mark.parametrize("measure", MEASURES[:2])
def test_a_model_with_itself_is_computed_once(measure):
    params = _params(0)
    stream = streams.from_arrays(_inputs(), batch_size=16)
    traced = []

    def counted(params, inputs):
        traced.append(1)
        return three_layers(params, inputs)

    got = matrix.matrix(measure, counted, params, counted, params, stream).values
    assert len(traced) == 2  # once for the names, once for the numbers
    np.testing.assert_allclose(np.diag(got), 1, atol=1e-5)
    copy = jax.tree.map(jnp.copy, params)
    other = matrix.matrix(measure, counted, params, counted, copy, stream).values
    np.testing.assert_allclose(got, other, atol=1e-5)


def test_where_prepared_layers_do_not_fit_blocks_give_the_same(monkeypatch):
    stream = streams.from_arrays(_inputs(), batch_size=16)
    params = _params(0)
    two, one = (
        (lambda: _matrix("mutual_knn", stream).values),
        (lambda: matrix.matrix("pwcca", three_layers, params, three_layers, params, stream)[3]),
    )
    expected = two(), one()
    monkeypatch.setattr(_layer_pairs, "PREPARED_BYTES", 21000)  # of two layers at most
    np.testing.assert_array_equal(two(), expected[0])
    np.testing.assert_array_equal(one(), expected[1])


# Positions


def _pooled(z):
    return z.reshape(len(z), -1, z.shape[-1]).mean(1) if z.ndim > 2 else z


@pytest.mark.parametrize("measure", MEASURES[1:2])
def test_pooled_positions(measure):
    got = _matrix(measure, streams.from_arrays(_inputs(), batch_size=16), spatial="pool")
    np.testing.assert_allclose(got.values, _expected(measure, _inputs(), _pooled), atol=2e-5)
    assert got.spatial == "pool"


def _positions(z):
    return z.reshape(-1, z.shape[-1])


@pytest.mark.parametrize("measure", MEASURES[1:2])
def test_positions_as_examples(measure):
    got = _matrix(measure, streams.from_arrays(_inputs(), batch_size=16), spatial="positions")
    x, y = (three_layers(_params(seed), _inputs()) for seed in (0, 1))
    for i, name in enumerate(NAMES):
        expected = measures.between(measure, _positions(x[name]), _positions(y[name]))
        np.testing.assert_allclose(got.values[i, i], expected, atol=2e-5)
    # four, four and one of an example
    assert np.isnan(got.values).tolist() == [[False, False, True]] * 2 + [[True, True, False]]
    assert got.num_examples == N


def hidden_alone(params, inputs):
    return {"hidden": three_layers(params, inputs)["hidden"]}


def _by_position(stream):
    x, y = _params(0), _params(1)
    options = {"spatial": "positions", "hold": "moments"}
    return matrix.matrix("cka_biased", hidden_alone, x, hidden_alone, y, stream, **options)


def test_positions_by_moments():
    got = _by_position(streams.from_arrays(_inputs(), batch_size=16))
    x, y = (_positions(hidden_alone(_params(seed), _inputs())["hidden"]) for seed in (0, 1))
    np.testing.assert_allclose(got.values[0, 0], measures.between("cka_biased", x, y), atol=1e-5)
    assert got.num_examples == N


# Undefined and refused


@pytest.mark.parametrize("measure", MEASURES[::2])
def test_a_constant_layer_is_not_a_number_and_leaves_the_others(measure):
    def with_dead_layer(params, inputs):
        features = three_layers(params, inputs)
        return features | {"hidden": jnp.full((len(inputs), 8), 0.1)}

    stream = streams.from_arrays(_inputs(), batch_size=16)
    x, y = _params(0), _params(1)
    got = matrix.matrix(measure, with_dead_layer, x, three_layers, y, stream)
    assert np.isnan(got.values[1]).all()
    assert got.too_few[1].all()
    expected = _expected(measure, _inputs())
    np.testing.assert_allclose(got.values[::2], expected[::2], atol=2e-5)


# Evidence


def two_layers(params, inputs):
    features = three_layers(params, inputs)
    return {name: features[name] for name in ("hidden", "logits")}


def _distance(called=lambda: None):
    """−|correlation| of the first features: cheap, and low where similar."""

    def prepare(x):
        jax.debug.callback(called)
        z = x[:, 0] - x[:, 0].mean()
        return z / jnp.sqrt((z * z).sum())

    def compare(x, y):
        return -jnp.abs((x * y).sum())

    return measures.get("shape_distance")._replace(
        name="distance", comparison=Comparison(prepare, compare, rows, 3, "distance"), low=-1.0
    )


def test_each_pair_has_the_evidence_of_its_two_matrices():
    stream, key = streams.from_arrays(_inputs(), batch_size=16), jax.random.key(3)
    options = {"num_permutations": 39, "num_resamples": 12, "key": key, "confidence": 0.8}
    measure = _distance()
    models = (measure, two_layers, _params(0), two_layers, _params(1), stream)
    got, plain = matrix.matrix(*models, **options), matrix.matrix(*models, hold="rows")
    x, y = (two_layers(_params(seed), _inputs()) for seed in (0, 1))
    expected = evidence.evidence(measure, x["hidden"], y["logits"], **options)
    for field in ("z", "p_value", "low", "high"):
        values = getattr(got, field)
        np.testing.assert_allclose(values[0, 1], getattr(expected, field), atol=1e-3, err_msg=field)
        assert np.isfinite(values).all()
        assert np.isnan(getattr(plain, field)).all()
    np.testing.assert_array_equal(got.values, plain.values)


def test_nothing_is_prepared_again_for_the_null():
    prepared = []
    own = _distance(lambda: prepared.append(1))
    stream, key = streams.from_arrays(_inputs(), batch_size=16), jax.random.key(0)
    x, y = _params(0), _params(1)
    matrix.matrix(own, two_layers, x, two_layers, y, stream, num_permutations=3, key=key)
    jax.effects_barrier()
    assert len(prepared) == 4


def test_positions_are_permuted_with_their_example():
    """Of y that is the position alone, every permutation of examples leaves the value."""

    def where(params, inputs):
        place = jnp.arange(4.0).reshape(1, 4, 1) + 0 * inputs[:, :1, None]
        return {"where": place, "what": place + inputs[:, :4, None]}

    stream = streams.from_arrays(_inputs(), batch_size=16)
    options = {"num_permutations": 19, "num_resamples": 5, "key": jax.random.key(0)}
    got = matrix.matrix(
        "regression_r2", where, {}, where, {}, stream, spatial="positions", **options
    )
    np.testing.assert_allclose(got.p_value[0], [1, 1])
    np.testing.assert_allclose(got.p_value[1], [1, 0.05])
    assert got.low[1, 1] <= got.values[1, 1] <= got.high[1, 1]
    assert (got.high - got.low)[0, 1] > 0.001


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_permutations": 5}, TypeError, r"expected key .* jax\.random\.key\(0\), got None"),
        ({"num_resamples": -1}, ValueError, "of at least 0, got 0 and -1"),
        ({"confidence": 95}, ValueError, "between 0 and 1, got 95"),
        (
            {"num_resamples": 5, "key": jax.random.key(0), "hold": "moments"},
            ValueError,
            "expected hold='rows' or 'auto' for permutations and resamples",
        ),
    ],
)
def test_evidence_that_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        _matrix("cka_debiased", streams.from_arrays(_inputs(), batch_size=16), **options)


def test_low_precision_and_integers():
    def features(params, inputs):
        low = inputs.astype(jnp.bfloat16)
        return {"low": low, "whole": jnp.round(4 * inputs).astype(jnp.int32)}

    stream = streams.from_arrays(_inputs(), batch_size=16)
    got = matrix.matrix("mean_cca", features, {}, features, {}, stream).values
    low, whole = (np.float32(v) for v in features({}, _inputs()).values())
    expected = measures.between("mean_cca", low, whole)
    np.testing.assert_allclose([got[0, 1], got[1, 0]], [expected] * 2, atol=2e-5)


@pytest.mark.parametrize(
    ("measure", "options", "message"),
    [
        ("cca", {}, "unknown measure 'cca'; did you mean"),
        ("pwcca", {"spatial": "pooled"}, "unknown spatial 'pooled'; did you mean 'pool'"),
        ("pwcca", {"hold": "row"}, "unknown hold 'row'; did you mean 'rows'"),
        (
            "rsa",
            {"hold": "moments"},
            "expected a function of second moments, got rsa; pass hold='rows'",
        ),
        (
            "pwcca",
            {"hold": "moments", "spatial": "positions"},
            "layers with equally many positions",
        ),
    ],
)
def test_refused_before_the_data_are_read(measure, options, message):
    read = []

    def stream():
        for i in range(2):
            read.append(i)
            yield {"inputs": _inputs(16)}

    with pytest.raises(ValueError, match=message):
        _matrix(measure, stream, **options)
    assert len(read) <= 1  # the first batch gives the shapes


@pytest.mark.parametrize("measure", ["cka_debiased", "mutual_knn"])
def test_too_few_examples_are_refused(measure):
    stream = streams.from_arrays(_inputs(3), batch_size=16)
    least = measures.get(measure).comparison.least
    with pytest.raises(ValueError, match=f"at least {least} examples .*, got 3"):
        _matrix(measure, stream)


def test_no_data():
    with pytest.raises(ValueError, match="expected a stream with at least one batch, got none"):
        _matrix("pwcca", lambda: iter([]))


def test_a_measure_of_ones_own():
    own = measures.get("svcca")._replace(name="svcca_70", comparison=cca.make_svcca(0.7))
    stream = streams.from_arrays(_inputs(), batch_size=16)
    got = _matrix(own, stream)
    assert got.measure == "svcca_70"
    x, y = (three_layers(_params(seed), _inputs())["hidden"] for seed in (0, 1))
    expected = cca.svcca(x, y, variance=0.7)
    np.testing.assert_allclose(got.values[1, 1], expected, atol=2e-5)
    assert abs(expected - measures.between("svcca", x, y)) > 1e-2


def test_the_same_shapes_compile_once():
    stream = streams.from_arrays(_inputs(), batch_size=16)
    _matrix("procrustes", stream)
    compiled = (_examples._rows, _examples._fold, _layer_pairs._prepare, _layer_pairs._compare)
    sizes = [function._cache_size() for function in compiled]
    _matrix("procrustes", streams.from_arrays(_inputs() + 1, batch_size=16))
    assert [function._cache_size() for function in compiled] == sizes
