"""Re-estimated batch statistics against float64, and every rule by which they are settled."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.core.models import make_data
from tests.helpers import batch_norm, landscapes, tiny_models
from tests.helpers import tolerances as tol
from tlx.core import batch_statistics, evaluate, metrics, paths, sharding, streams, tree

N, BATCH = 23, 8
INPUTS, LABELS = make_data(N)
TRAIN = make_data(30, seed=1)[0] * 2 + 1
A, B = batch_norm.make_params(0), batch_norm.make_params(1)
ENDS = (A, B)
ALPHAS = np.float32([0, 0.5, 1.25])
STREAM = streams.from_arrays(INPUTS, LABELS, batch_size=BATCH)
SOURCE = streams.from_arrays(TRAIN, batch_size=12)
METRIC = metrics.classification()
assert_close = functools.partial(np.testing.assert_allclose, rtol=2 * tol.RTOL["float32"])


def along(source=None, *, params=ENDS, stream=STREAM, apply_fn=batch_norm.apply_fn, **options):
    path = paths.line(*params)
    options = {"ends": params} | options
    return batch_statistics.along(apply_fn, METRIC, path, ALPHAS, stream, source=source, **options)


def batches(inputs, size):
    return [inputs[i : i + size] for i in range(0, len(inputs), size)]


def at(alpha):
    return tree.lerp(A, B, jnp.float32(alpha))


@functools.cache
def whole():
    return along(SOURCE)


def test_reestimation_against_float64():
    results, rule = whole()
    assert rule == "re-estimated"
    for i, alpha in enumerate(ALPHAS):
        params = batch_norm.reestimated(at(alpha), batches(TRAIN, 12))
        assert_close(results["loss"][i], batch_norm.loss(params, INPUTS, LABELS))


@pytest.mark.parametrize("size", [1, 7, 30, 64])
def test_the_batch_size_is_that_of_training(size):
    source = streams.from_arrays(TRAIN, batch_size=size)
    new = batch_statistics.reestimate(batch_norm.apply_fn, A, source)
    expected = batch_norm.reestimated(A, batches(TRAIN, size))
    check = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(check, new, expected)


def test_only_the_statistics_change():
    new = tree.named_leaves(batch_statistics.reestimate(batch_norm.apply_fn, A, SOURCE))
    for name, leaf in tree.named_leaves(A).items():
        moved = not np.array_equal(new[name], leaf)
        assert moved == name.endswith(("mean", "var"))


@pytest.mark.parametrize("framework", tiny_models.FRAMEWORKS)
def test_every_framework(framework):
    tiny = tiny_models.make(framework, 0)
    inputs = tiny_models.make_inputs(20)[0]
    source = streams.from_arrays(inputs, batch_size=32)
    new = tree.named_leaves(batch_statistics.reestimate(tiny.apply_fn, tiny.params, source))
    hidden = tiny_models.reference(tiny, inputs)[tiny.layers[0]]
    check = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    check(new[tiny.roles["norm/mean"]].ravel(), hidden.mean(0))
    check(new[tiny.roles["norm/var"]].ravel(), hidden.var(0))


class Conv(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        for name in ("one", "two"):
            x = nn.Conv(4, (3, 3), name=f"conv_{name}")(x)
            x = nn.relu(nn.BatchNorm(not train, momentum=0.0, name=name)(x))
        return nn.Dense(3)(x.mean((1, 2)))


def test_as_linens_training_mode_on_one_batch():
    model = Conv()
    inputs = np.random.default_rng(0).standard_normal((6, 4, 4, 2)).astype(np.float32) + 1
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    params = jax.tree.map(lambda x: rng.uniform(0.5, 1, x.shape).astype(np.float32), shapes)
    _, trained = jax.jit(functools.partial(model.apply, train=True, mutable="batch_stats"))(
        params, inputs
    )
    new = batch_statistics.reestimate(
        model.apply, params, streams.from_arrays(inputs, batch_size=6)
    )
    check = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(check, new["batch_stats"], trained["batch_stats"])


@pytest.mark.parametrize("repair", [False, True])
def test_masked_rows_change_nothing_even_if_they_hold_nan(repair):
    def dirty(stream):
        for batch in stream():
            mask = np.asarray(batch["mask"])
            inputs = np.where(mask[:, None], batch["inputs"], np.nan)
            rows = {**batch, "inputs": inputs.astype(np.float32)}
            yield {name: x[::-1] for name, x in rows.items()}  # the masked ones first

    found, _ = along(lambda: dirty(SOURCE), stream=lambda: dirty(STREAM), repair=repair)
    expected = along(SOURCE, repair=True)[0] if repair else whole()[0]
    jax.tree.map(assert_close, found, expected)


@pytest.mark.parametrize("chunk", [2, 3])
def test_the_chunk_changes_nothing(chunk):
    jax.tree.map(assert_close, along(SOURCE, chunk=chunk)[0], whole()[0])


def test_padding_and_the_measured_streams_batches_change_nothing():
    padded = lambda: (streams.pad_batch(batch, 17) for batch in SOURCE())  # noqa: E731
    stream = streams.from_arrays(INPUTS, LABELS, batch_size=5)
    jax.tree.map(assert_close, along(padded, stream=stream)[0], whole()[0])


@pytest.mark.parametrize("repair", [False, True])
def test_two_devices_give_the_numbers_of_one(repair):
    mesh = sharding.make_mesh(jax.devices()[:2])
    split = lambda stream: lambda: (sharding.shard_batch(b, mesh) for b in stream())  # noqa: E731
    params = sharding.replicate(ENDS, mesh)
    found, _ = along(split(SOURCE), params=params, stream=split(STREAM), repair=repair)
    expected = along(SOURCE, repair=repair)[0]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4), found, expected)


@pytest.mark.parametrize("repair", [False, True])
def test_data_are_read_once(repair):
    (source, of_source), (stream, of_stream) = map(landscapes.counting, (SOURCE, STREAM))
    along(source, stream=stream, repair=repair)
    assert len(of_stream) == 1
    assert len(of_source) == (3 if repair else 1)  # both ends, then the points


def test_peek_gives_back_what_it_read():
    for stream in (STREAM, lambda: list(STREAM())):
        first, rest = streams.peek(stream)
        np.testing.assert_array_equal(first["inputs"], INPUTS[:BATCH])
        for again in (rest, rest):
            assert [int(b["mask"].sum()) for b in again()] == [8, 8, 7]
    assert streams.peek(lambda: iter(()))[0] is None


@pytest.mark.parametrize("rule", ["interpolated", "a", "b"])
def test_rules_without_data(rule):
    results, said = along({"interpolated": "interpolate"}.get(rule, rule))
    assert said == rule
    for i, alpha in enumerate(ALPHAS):
        params = at(alpha)
        if rule != "interpolated":
            end = ENDS[rule == "b"]
            layers = [
                p | {name: e[name] for name in ("mean", "var")}
                for p, e in zip(params["layers"], end["layers"], strict=True)
            ]
            params = params | {"layers": layers}
        alone = evaluate(batch_norm.apply_fn, METRIC, params, STREAM)
        assert_close(results["loss"][i], alone["loss"])


@pytest.mark.parametrize("source", [None, "interpolate", "a", SOURCE])
def test_a_model_without_statistics(source):
    params = [{"head": p["head"], "layers": []} for p in ENDS]
    params = [p | {"head": p["head"][: batch_norm.FEATURES]} for p in params]
    results, rule = along(source, params=tuple(params))
    assert rule == "none"
    alone = evaluate(batch_norm.apply_fn, METRIC, params[0], STREAM)
    assert_close(results["loss"][0], alone["loss"])
    assert batch_statistics.reestimate(batch_norm.apply_fn, params[0], SOURCE) is params[0]


@pytest.mark.parametrize("source", ["interpolate", "a", SOURCE])
def test_paths_that_cannot_be_traced(source):
    models = paths.points([at(alpha) for alpha in ALPHAS])
    found, _ = batch_statistics.along(
        batch_norm.apply_fn, METRIC, models, np.arange(3), STREAM, source=source, ends=ENDS
    )
    jax.tree.map(assert_close, found, along(source)[0])


def test_half_precision_is_kept():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), A)
    source = streams.from_arrays(jnp.asarray(TRAIN, jnp.bfloat16), batch_size=30)
    new = batch_statistics.reestimate(batch_norm.apply_fn, half, source)
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype(jnp.bfloat16)}
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), half)
    expected = batch_norm.reestimated(wide, [np.asarray(source.arrays["inputs"], np.float64)])
    for p, q in zip(new["layers"], expected["layers"], strict=True):
        scale = np.abs(q["mean"]).max()
        np.testing.assert_allclose(np.float64(p["mean"]), q["mean"], atol=0.02 * scale)
        np.testing.assert_allclose(np.float64(p["var"]), q["var"], rtol=0.06)


def test_large_means_keep_the_variance():
    """Moments by sums of squares would give nonsense at a mean of a thousand spreads."""
    inputs = np.float32(1000 + np.random.default_rng(0).standard_normal((64, batch_norm.FEATURES)))
    params = batch_norm.make_params(0, norms=1)
    kernel = jnp.eye(batch_norm.FEATURES, batch_norm.WIDTH).at[0, -1].set(1)
    params["layers"][0]["kernel"] = kernel
    new = batch_statistics.reestimate(
        batch_norm.apply_fn, params, streams.from_arrays(inputs, batch_size=16)
    )
    expected = np.var(np.float64(inputs) @ np.asarray(kernel, np.float64), axis=0)
    np.testing.assert_allclose(new["layers"][0]["var"], expected, rtol=2e-3)


def test_a_layer_used_twice_can_be_interpolated_only():
    def twice(params, inputs):
        x = batch_norm.apply_fn({"layers": params["layers"][1:], "head": jnp.eye(6)}, inputs)
        return batch_norm.apply_fn({**params, "layers": params["layers"][1:]}, x)

    stream = streams.from_arrays(*make_data(8, features=6), batch_size=8)
    with pytest.raises(ValueError, match=r"layers/1/mean, layers/1/var shared by several layers"):
        along(stream, stream=stream, apply_fn=twice)
    assert along("interpolate", stream=stream, apply_fn=twice)[1] == "interpolated"


EMPTY = streams.from_arrays(TRAIN[:0], batch_size=4)
PADDING = lambda: iter([{"inputs": TRAIN[:4], "mask": np.zeros(4, bool)}])  # noqa: E731


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (None, {}, r"with batch statistics \(layers/0/mean, layers/0/var, layers/1/mean, "
                   r"layers/1/var\), got None: no model.s fit.* Pass a stream of"),
        ("interpolat", {}, "unknown source of statistics 'interpolat'; did you mean 'interpolate'"),
        ("a", {"ends": None}, "got 'a': there are no two ends here"),
        (EMPTY, {}, "expected training batches to take statistics from, got a stream without"),
        (PADDING, {}, "expected training batches to take statistics from, got a stream without"),
        (None, {"repair": True}, "ends and statistics .*, got statistics=None"),
        (SOURCE, {"repair": True, "ends": None}, "ends and statistics .*, got no two ends"),
    ],
)  # fmt: skip
def test_errors(source, options, message):
    with pytest.raises(ValueError, match=message):
        along(source, **options)


@pytest.mark.parametrize("shape", [(0,), ()])
def test_no_coordinates(shape):
    with pytest.raises(ValueError, match="one leading axis of at least one point"):
        batch_statistics.along(
            batch_norm.apply_fn, METRIC, paths.line(*ENDS), np.zeros(shape), STREAM, source="a",
            ends=ENDS,
        )  # fmt: skip


def test_repair_needs_a_line():
    path = paths.plane(A, B, B)
    with pytest.raises(ValueError, match=r"expected coordinates \[K\] .* got shapes \[\(2, 2\)\]"):
        batch_statistics.along(
            batch_norm.apply_fn, METRIC, path, np.zeros((2, 2)), STREAM, source=SOURCE, ends=ENDS,
            repair=True,
        )  # fmt: skip


def test_reestimate_from_nothing():
    with pytest.raises(ValueError, match="expected training batches"):
        batch_statistics.reestimate(batch_norm.apply_fn, A, EMPTY)


def test_nothing_to_measure_on():
    stream = streams.from_arrays(INPUTS[:0], LABELS[:0], batch_size=4)
    results, rule = along(SOURCE, stream=stream)
    assert rule == "none"
    assert np.isnan(results["loss"]).all()
