import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core import models
from tlx.core import evaluate, evaluate_path, graph, metrics, paths, sharding, streams, sweeps, tree
from tlx.core import labels as labels_lib
from tlx.core.graph import parts

N = 26
ALPHAS = jnp.linspace(0, 1, 5)
METRIC = metrics.classification()
A, B = models.make_params(0), models.make_params(1)
LABELS = labels_lib.from_names(A, lambda name: name.split("/")[0])


def _stream(batch_size=8):
    return streams.from_arrays(*models.make_data(N), batch_size=batch_size)


def _swept(path_fn=None, coordinates=ALPHAS, stream=None, **options):
    path_fn = paths.line(A, B) if path_fn is None else path_fn
    stream = _stream() if stream is None else stream
    return sweeps.evaluate_modules(
        models.apply_fn, METRIC, path_fn, coordinates, B, LABELS, stream, **options
    )


def _same(a, b, rtol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6), a, b)


def test_oracle_each_module_moves_alone():
    inputs, y = models.make_data(N)
    found = _swept()
    assert list(found) == ["head", "hidden"]
    for module, got in found.items():
        for i, alpha in enumerate(np.asarray(ALPHAS)):
            moved = jax.tree.map(lambda a, b, t=alpha: (1 - t) * a + t * b, A[module], B[module])
            loss, accuracy = models.numpy_classification({**B, module: moved}, inputs, y)
            np.testing.assert_allclose(got["loss"][i], loss, rtol=1e-5)
            np.testing.assert_allclose(got["accuracy"][i], accuracy, rtol=1e-6)
            assert got["count"][i] == N


def test_equals_spliced_paths_to_the_bit():
    for module, got in _swept().items():
        moving = paths.spliced(paths.line(A, B), B, LABELS, module)
        expected = evaluate_path(models.apply_fn, METRIC, moving, ALPHAS, _stream(), chunk=1)
        jax.tree.map(np.testing.assert_array_equal, got, expected)
        trained = evaluate(models.apply_fn, METRIC, B, _stream())
        assert got["loss"][-1] == trained["loss"]


@pytest.mark.parametrize("options", [{"chunk": 2}, {"chunk": 7}, {"stream": _stream(26)}])
def test_chunk_and_batch_size_change_nothing(options):
    _same(_swept(**options), _swept())


@settings(max_examples=8)  # each compiles
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**30))
def test_any_batch_size_chunk_and_noise(batch_size, chunk, seed):
    noise = paths.standard_normal(jax.random.key(seed), B)
    path_fn = paths.shifted(paths.line(A, B), noise)
    coordinates = (ALPHAS, jnp.linspace(0, 0.3, 5))
    whole = _swept(path_fn, coordinates, _stream(N))
    _same(_swept(path_fn, coordinates, _stream(batch_size), chunk=chunk), whole, rtol=3e-5)


def test_masked_rows_with_nan_change_nothing():
    inputs, y = models.make_data(N)
    batch = streams.pad_batch({"inputs": inputs, "labels": y}, N + 5)
    batch["inputs"] = np.where(batch["mask"][:, None], batch["inputs"], np.nan)
    _same(_swept(stream=lambda: iter([batch])), _swept())


def test_a_mesh_of_devices_gives_the_numbers_of_one():
    mesh = sharding.make_mesh()
    a, b = (sharding.replicate(x, mesh) for x in (A, B))
    stream = _stream()
    found = sweeps.evaluate_modules(
        models.apply_fn, METRIC, paths.line(a, b), ALPHAS, b, LABELS,
        lambda: (sharding.shard_batch(batch, mesh) for batch in stream()),
    )  # fmt: skip
    _same(found, _swept())


def test_any_callable_is_a_path():
    between = [tree.lerp(A, B, float(t)) for t in ALPHAS]
    _same(_swept(lambda i: between[int(i)], jnp.arange(5)), _swept())
    _same(_swept(paths.stacked(between), jnp.arange(5)), _swept())


def test_modules_are_chosen_and_ordered():
    assert list(_swept(modules=["hidden", "head", "hidden"])) == ["hidden", "head"]
    assert list(_swept(modules=["head"])) == ["head"]


def test_an_empty_stream_is_undefined():
    found = _swept(stream=lambda: iter([]))
    assert np.isnan(found["head"]["loss"]).all()
    assert (found["head"]["count"] == 0).all()


def test_a_module_that_is_not_used_changes_nothing():
    a, b = ({**x, "spare": {"w": jnp.full(3, s)}} for x, s in ((A, 0.0), (B, 9.0)))
    labels = labels_lib.from_names(a, lambda name: name.split("/")[0])
    found = sweeps.evaluate_modules(
        models.apply_fn, METRIC, paths.line(a, b), ALPHAS, b, labels, _stream()
    )
    trained = evaluate(models.apply_fn, METRIC, b, _stream())
    assert (found["spare"]["loss"] == trained["loss"]).all()


def test_what_comes_before_a_module_is_not_computed_again():
    inputs = models.make_data(4)[0]
    names = tuple(tree.names(labels_lib.select(B, LABELS, m)) for m in ("hidden", "head"))
    plan = parts.plan(models.apply_fn, B, inputs, names)
    made = [[plan.graph.ops[i].name for i in part.ops] for part in plan.parts]
    assert made[0].count("dot_general") == 2
    assert plan.parts[0].carried == ()
    assert made[1].count("dot_general") == 1
    assert len(plan.parts[1].carried) == 1
    assert [plan.graph.ops[i].name for i in plan.before].count("dot_general") == 1
    assert plan is parts.plan(models.apply_fn, B, inputs, names)
    assert graph.shape(plan.carried[0]) == (4, 8)


def test_nothing_is_traced_again():
    count = []

    def apply_fn(params, inputs):
        count.append(1)
        return models.apply_fn(params, inputs)

    for path_fn in (paths.line(A, B), paths.line(B, A)):
        for _ in range(2):
            sweeps.evaluate_modules(apply_fn, METRIC, path_fn, ALPHAS, B, LABELS, _stream())
    assert len(count) == 2  # once to be checked, once to be taken apart


def test_errors():
    for chunk, kind in ((0, ValueError), ("auto", ValueError), (2.0, TypeError)):
        expected = f"^expected chunk to be an integer of at least 1, got {chunk!r}$"
        with pytest.raises(kind, match=expected):
            _swept(chunk=chunk)
    with pytest.raises(ValueError, match="unknown label 'haed'; did you mean 'head'"):
        _swept(modules=["haed"])
    with pytest.raises(ValueError, match="at least one point"):
        _swept(coordinates=jnp.zeros(0))
    small = models.make_params(0, width=4)
    with pytest.raises(ValueError, match=r"hidden/kernel: float32 5×8 in base, float32 5×4 in a"):
        _swept(paths.line(small, small))


def test_a_shifted_path_is_the_path_and_a_direction():
    noise = paths.standard_normal(jax.random.key(1), B)
    got = paths.shifted(paths.line(A, B), noise)((0.25, 0.5))
    expected = jax.tree.map(lambda a, b, u: 0.75 * a + 0.25 * b + 0.5 * u, A, B, noise)
    _same(got, expected)
    jax.tree.map(
        np.testing.assert_array_equal, paths.shifted(paths.line(A, B), noise)((1.0, 0.0)), B
    )


def test_standard_normal_leaves_counters_alone():
    params = {"w": jnp.zeros((300, 5)), "count": jnp.int32(3)}
    noise = paths.standard_normal(jax.random.key(0), params)
    assert noise["count"] == 3
    assert abs(float(noise["w"].std()) - 1) < 0.1
    moved = paths.shifted(paths.line(params, params), noise)((0.0, 1.0))
    assert moved["count"] == 3
    np.testing.assert_array_equal(moved["w"], noise["w"])


def test_a_mesh_compiles_each_module_once():
    mesh = sharding.make_mesh()
    a, b = (sharding.replicate(x, mesh) for x in (A, B))
    stream = _stream()
    before = sweeps._after._cache_size()
    for _ in range(2):
        sweeps.evaluate_modules(
            models.apply_fn, METRIC, paths.line(a, b), ALPHAS, b, LABELS,
            lambda: (sharding.shard_batch(batch, mesh) for batch in stream()), chunk=3,
        )  # fmt: skip
    assert sweeps._after._cache_size() - before <= 2


def test_a_function_that_maps_over_shards():
    mesh = sharding.make_mesh()

    def product(weights, inputs):
        return inputs @ weights

    everywhere = jax.sharding.PartitionSpec()

    def apply_fn(params, inputs):
        mapped = jax.shard_map(
            product, mesh=mesh, in_specs=(everywhere, everywhere), out_specs=everywhere
        )
        return mapped(params["a"], inputs) @ params["b"]

    params = {"a": A["hidden"]["kernel"], "b": A["head"]["kernel"]}
    other = {"a": B["hidden"]["kernel"], "b": B["head"]["kernel"]}
    labels = {"a": "a", "b": "b"}
    path_fn = paths.line(other, params)
    found = sweeps.evaluate_modules(apply_fn, METRIC, path_fn, ALPHAS, params, labels, _stream())
    moving = paths.spliced(path_fn, params, labels, "a")
    _same(found["a"], evaluate_path(apply_fn, METRIC, moving, ALPHAS, _stream()))
