import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.models import apply_fn, make_data, make_params
from tlx.core import (
    _chunks,
    evaluate,
    evaluate_path,
    evaluation,
    labels,
    metrics,
    paths,
    sharding,
    streams,
    tree,
)

A, B, C = make_params(0), make_params(1), make_params(2)
MODULES = labels.from_names(A, lambda name: name.split("/")[0])
KEYS = jax.random.split(jax.random.key(0), 3)
PATHS = {
    "line": (paths.line(A, B), jnp.linspace(-0.5, 1.5, 5)),
    "plane": (paths.plane(A, tree.sub(B, A), tree.sub(C, A)), jnp.asarray([[0.0, 0], [0.3, 0.4]])),
    "polygon": (paths.polygon([A, B, C]), jnp.linspace(0, 1, 5)),
    "bezier": (paths.bezier([A, B, C]), jnp.linspace(0, 1, 4)),
    "spliced": (paths.spliced(paths.line(A, B), A, MODULES, "head"), jnp.linspace(0, 1, 3)),
    "noisy": (paths.noisy(paths.line(A, B)), (jnp.linspace(0, 1, 3), jnp.full(3, 0.1), KEYS)),
    "points": (paths.points([A, B, C]), jnp.arange(3)),
    "closure": (lambda t: jax.tree.map(lambda x: x * t, A), jnp.linspace(0, 1, 3)),
}  # fmt: skip


def assert_close(a, b):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), a, b)


def rows(coordinates):
    count = len(jax.tree.leaves(coordinates)[0])
    return [jax.tree.map(lambda x, i=i: x[i], coordinates) for i in range(count)]


@pytest.mark.parametrize(
    ("path_fn", "coordinate", "weights"),
    [
        (PATHS["plane"][0], [0.3, 0.4], [1 - 0.3 - 0.4, 0.3, 0.4]),
        (paths.hull([A, B, C]), [0.5, 0.2, 0.4], [0.5, 0.2, 0.4]),
        (PATHS["polygon"][0], 0.6, [0, 0.8, 0.2]),
        (PATHS["bezier"][0], 0.6, [0.16, 0.48, 0.36]),
    ],
    ids=["plane", "hull", "polygon", "bezier"],
)
def test_points_within_a_path(path_fn, coordinate, weights):
    found = jax.tree.leaves(path_fn(jnp.asarray(coordinate)))
    for leaf, *corners in zip(found, *map(jax.tree.leaves, (A, B, C)), strict=True):
        expected = sum(w * np.float64(x) for w, x in zip(weights, corners, strict=True))
        np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", ["auto", 1, 2, 7])
@pytest.mark.parametrize("name", PATHS)
def test_evaluate_path_is_a_loop_of_evaluate(name, chunk):
    path_fn, coordinates = PATHS[name]
    stream = streams.from_arrays(*make_data(23), batch_size=5)
    metric = metrics.classification()
    found = evaluate_path(apply_fn, metric, path_fn, coordinates, stream, chunk=chunk)
    each = [evaluate(apply_fn, metric, path_fn(c), stream) for c in rows(coordinates)]
    assert_close(found, jax.tree.map(lambda *xs: jnp.stack(xs), *each))


@settings(max_examples=8)
@given(batch_size=st.integers(1, 30), chunk=st.integers(1, 6))
def test_results_do_not_depend_on_batch_size_or_chunk(batch_size, chunk):
    path_fn, alphas = PATHS["line"]
    metric = metrics.combine(
        {"c": metrics.classification(), "each": metrics.collect(metrics.accuracy, 23)}
    )
    expected = evaluate_path(
        apply_fn, metric, path_fn, alphas, streams.from_arrays(*make_data(23), batch_size=23)
    )
    stream = streams.from_arrays(*make_data(23), batch_size=batch_size)
    assert_close(evaluate_path(apply_fn, metric, path_fn, alphas, stream, chunk=chunk), expected)


def test_groups_of_batches_change_nothing(monkeypatch):
    stream = streams.from_arrays(*make_data(40), batch_size=4)
    path_fn, alphas = PATHS["line"]
    whole = evaluate_path(apply_fn, metrics.classification(), path_fn, alphas, stream)
    monkeypatch.setattr(evaluation, "GROUP_BYTES", 200)
    assert_close(evaluate_path(apply_fn, metrics.classification(), path_fn, alphas, stream), whole)


@pytest.mark.parametrize("chunk", [1, 2])
def test_the_data_are_read_once(chunk):
    passes = []
    inner = streams.from_arrays(*make_data(10), batch_size=4)

    def counting():
        passes.append(1)
        return inner()

    evaluate_path(apply_fn, metrics.classification(), *PATHS["line"], counting, chunk=chunk)
    assert len(passes) == 1


def test_new_parameters_and_coordinates_compile_nothing():
    traces = []

    def counted(params, inputs):
        traces.append(1)
        return apply_fn(params, inputs)

    stream = streams.from_arrays(*make_data(10), batch_size=4)
    for a, b in ((A, B), (B, C)):
        evaluate_path(
            counted, metrics.classification(), paths.line(a, b), jnp.linspace(0, 1, 3), stream
        )
    evaluate(counted, metrics.classification(), A, stream)
    assert len(traces) == 2  # once to be checked, once to be compiled


@pytest.mark.parametrize("chunk", [1, 2])
def test_all_points_of_a_path_are_formed_by_one_program(chunk):
    form = _chunks._form_traced
    a, b = (make_params(seed, width=7) for seed in (0, 1))
    stream = streams.from_arrays(*make_data(8), batch_size=8)
    before = form._cache_size()
    alphas = np.linspace(0, 1, 5, dtype=np.float32)
    evaluate_path(apply_fn, metrics.classification(), paths.line(a, b), alphas, stream, chunk=chunk)
    assert form._cache_size() == before + 1


def test_empty_stream_gives_each_point_nan():
    stream = streams.from_arrays(*make_data(0), batch_size=4)
    found = evaluate_path(apply_fn, metrics.classification(), *PATHS["line"], stream)
    assert found["loss"].shape == (5,)
    assert np.isnan(found["loss"]).all()


@pytest.mark.parametrize("devices", [2, 4])
def test_devices_change_nothing(devices):
    mesh = sharding.make_mesh(jax.devices()[:devices])
    plain = streams.from_arrays(*make_data(23), batch_size=8)

    def split():
        return (sharding.shard_batch(batch, mesh) for batch in plain())

    metric = metrics.combine(
        {"c": metrics.classification(), "each": metrics.collect(metrics.accuracy, 23)}
    )
    a, b = sharding.replicate((A, B), mesh)
    alphas = jnp.linspace(0, 1, 3)
    found = evaluate_path(apply_fn, metric, paths.line(a, b), alphas, split)
    assert_close(found, evaluate_path(apply_fn, metric, paths.line(A, B), alphas, plain))


def test_rows_that_the_devices_do_not_divide():
    mesh = sharding.make_mesh(jax.devices()[:4])
    with pytest.raises(ValueError, match="a batch divisible by 4 devices, got 6 rows"):
        sharding.shard_batch({"inputs": np.ones(6)}, mesh)


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("line", {0.0: A, 1.0: B}),
        ("polygon", {0.0: A, 0.5: B, 1.0: C}),
        ("bezier", {0.0: A, 1.0: C}),
    ],
)
def test_paths_are_exact_at_their_ends(name, ends):
    for t, expected in ends.items():
        jax.tree.map(np.testing.assert_array_equal, PATHS[name][0](jnp.float32(t)), expected)


def test_only_the_chosen_modules_move():
    moved = PATHS["spliced"][0](jnp.float32(0.3))
    jax.tree.map(np.testing.assert_array_equal, moved["hidden"], A["hidden"])
    assert not np.allclose(moved["head"]["kernel"], A["head"]["kernel"])


def test_noise_is_gaussian_and_each_leafs_own():
    big = {"a": jnp.zeros((200, 200)), "b": jnp.zeros((200, 200))}
    path_fn = paths.noisy(lambda _: big)
    found = path_fn((0.0, jnp.float32(0.5), KEYS[0]))
    np.testing.assert_allclose(found["a"].std(), 0.5, rtol=0.02)
    assert abs(np.corrcoef(found["a"].ravel(), found["b"].ravel())[0, 1]) < 0.02
    assert len(np.unique(found["a"])) > 0.99 * found["a"].size  # no row of draws comes twice
    alone = paths.noisy(lambda _: {"b": big["b"]})((0.0, jnp.float32(0.5), KEYS[0]))
    np.testing.assert_array_equal(alone["b"], found["b"])


def test_noise_keeps_shapes_dtypes_and_counters():
    params = {
        "empty": jnp.zeros((0, 3)),
        "half": jnp.zeros((3, 5), jnp.bfloat16),
        "one": jnp.zeros(()),
        "steps": jnp.asarray(7),
        "wide": jnp.zeros(paths.ROW + 1),
    }
    found = paths.noisy(lambda _: params)((0.0, jnp.float32(1.0), KEYS[0]))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(
        lambda x: (x.shape, x.dtype), params
    )
    assert found["steps"] == 7
    assert all((found[name] != 0).all() for name in ("half", "one", "wide"))


def test_counters_must_agree():
    a, b = {"n": jnp.asarray(1), "w": jnp.ones(1)}, {"n": jnp.asarray(2), "w": jnp.ones(1)}
    with pytest.raises(ValueError, match="different values of n"):
        paths.line(a, b)
    assert paths.line(a, a)(0.5)["n"] == 1


def test_a_key_leaf_is_kept():
    a = {"k": jax.random.key(0), "w": jnp.ones(1)}
    assert paths.line(a, a)(0.5)["k"] == a["k"]


@pytest.mark.parametrize(
    ("coordinates", "chunk", "message"),
    [
        (jnp.zeros(0), 1, "at least one point, got shapes"),
        ((jnp.zeros(2), jnp.zeros(3)), 1, "one leading axis of at least one point"),
        (jnp.zeros(2), 0, "expected chunk to be 'auto' or an integer of at least 1, got 0"),
        (jnp.zeros(2), "Auto", "expected chunk to be 'auto' or an integer of at least 1, got 'A"),
        (jnp.zeros(2), None, "expected chunk to be 'auto' or an integer of at least 1, got None"),
        (jnp.zeros(2), 1.5, "expected chunk to be 'auto' or an integer of at least 1, got 1.5"),
    ],
)
def test_bad_input(coordinates, chunk, message):
    stream = streams.from_arrays(*make_data(4), batch_size=4)
    with pytest.raises(ValueError if isinstance(chunk, int | str) else TypeError, match=message):
        evaluate_path(
            apply_fn, metrics.classification(), PATHS["line"][0], coordinates, stream, chunk=chunk
        )


def test_fastest_width_is_a_power_of_two_within_the_memory(monkeypatch):
    batch = next(streams.from_arrays(*make_data(4), batch_size=4)())
    arguments = (apply_fn, metrics.classification(), A, batch)
    times = iter([8.0, 8.0, 8.0, 8.0, 8.0, 8.0])  # any width costs the same: wider is cheaper
    monkeypatch.setattr(evaluation, "_seconds", lambda *_: next(times))
    assert evaluation.fastest_width(*arguments, 9) == 8
    times = iter([8.0] * 6)
    limit = evaluation._bytes(*arguments, 4)
    assert limit > 2 * 4 * 4 * tree.count(A)  # temporaries too
    monkeypatch.setattr(evaluation, "CHUNK_BYTES", limit)
    assert evaluation.fastest_width(*arguments, 64) == 4
    monkeypatch.setattr(evaluation, "CHUNK_BYTES", 2 * 4 * tree.count(A))
    times = iter([8.0] * 6)
    assert evaluation.fastest_width(*arguments, 64) == 1


def test_no_width_is_tried_after_the_time_is_up(monkeypatch):
    batch = next(streams.from_arrays(*make_data(4), batch_size=4)())
    monkeypatch.setattr(evaluation, "TRIAL_SECONDS", 0.0)
    assert evaluation.fastest_width(apply_fn, metrics.classification(), A, batch, 64) == 1


@pytest.mark.parametrize(
    ("by_width", "expected"),
    [
        ([8, 8, 8, 8, 8], 8),  # any width costs the same: the widest is the cheapest
        ([8, 20, 99], 1),  # two that are no better
        ([8, 17, 20, 99], 4),  # the second of them is
        ([8, 30], 1),  # the first is far slower: nothing more is tried
    ],
)
def test_fastest_width_looks_one_further(monkeypatch, by_width, expected):
    batch = next(streams.from_arrays(*make_data(4), batch_size=4)())
    times = iter(by_width)
    monkeypatch.setattr(evaluation, "_seconds", lambda *_: float(next(times)))
    assert evaluation.fastest_width(apply_fn, metrics.classification(), A, batch, 8) == expected


def test_what_auto_has_measured_is_forgotten_after_many_functions():
    evaluation._pace.cache_clear()
    for number in range(100):
        evaluation._pace(lambda params, inputs, number=number: inputs, (), "cpu").spent = 1.0
    assert evaluation._pace.cache_info().currsize == 64


@pytest.mark.parametrize(("seconds", "trials"), [(0.0, 1), (1e9, 0)])
def test_auto_is_measured_once_and_changes_no_result(monkeypatch, seconds, trials):
    calls = []

    def widest(*arguments):
        calls.append(arguments)
        return 4

    monkeypatch.setattr(evaluation, "PATIENCE_SECONDS", seconds)
    evaluation._pace.cache_clear()
    monkeypatch.setattr(evaluation, "fastest_width", widest)
    stream = streams.from_arrays(*make_data(50), batch_size=16)
    alphas = np.linspace(0, 1, 7, dtype=np.float32)
    arguments = (apply_fn, metrics.classification(), paths.line(A, B), alphas, stream)
    auto = [evaluate_path(*arguments) for _ in range(2)]
    assert len(calls) == trials
    one = evaluate_path(*arguments, chunk=1)
    for found in auto:
        np.testing.assert_allclose(found["loss"], one["loss"], rtol=1e-6)


def test_models_on_one_axis_are_a_path():
    inputs, labels_of = make_data(20)
    stream = streams.from_arrays(inputs, labels_of, batch_size=8)
    stack = tree.stack([A, B, C])
    metric = metrics.classification()
    found = evaluate_path(apply_fn, metric, paths.members(stack), np.arange(3), stream)
    assert_close(found, tree.stack([evaluate(apply_fn, metric, p, stream) for p in (A, B, C)]))
    for one, again in zip((A, B, C), tree.unstack(stack), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, again)
    beyond = paths.members(stack)(3)
    assert all(np.isnan(x).all() for x in jax.tree.leaves(beyond))


@pytest.mark.parametrize("stack", [{"a": 1.0}, {"a": np.ones((2, 3)), "b": np.ones(3)}, {}])
def test_models_on_axes_of_different_lengths_are_refused(stack):
    with pytest.raises(ValueError, match="one leading axis of the same length, over the models"):
        paths.members(stack)


@pytest.mark.parametrize("coordinate", [0.9, -1, 3])
def test_no_model_between_points_or_beyond(coordinate):
    with pytest.raises(ValueError, match=rf"of points as one of 0 … 2.*, got {coordinate}"):
        paths.points([A, B, C])(coordinate)


def test_no_member_before_the_first():
    before = paths.members(tree.stack([A, B]))(jnp.int32(-1))
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(before))
