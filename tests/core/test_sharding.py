"""Placement: one mesh for rows, points and parameters; no device holds what it need not."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.helpers import compiled
from tlx.analyses.features.similarity import _cka_sums, cka_matrix, kernels
from tlx.analyses.landscape import _mean_loss, _operator
from tlx.analyses.landscape.modules import criticality
from tlx.core import _chunks, evaluate, evaluate_path, evaluation, metrics, paths, sharding, streams

WIDTH, DEPTH = 128, 12
MODEL_BYTES = 4 * DEPTH * WIDTH**2
METRIC = metrics.classification()


def apply_fn(params, inputs):
    for kernel in params.values():
        inputs = jnp.tanh(inputs @ kernel)
    return inputs


@functools.cache
def make_params(seed=0):
    rng = np.random.default_rng(seed)
    shape = (DEPTH, WIDTH, WIDTH)
    kernels = rng.standard_normal(shape).astype(np.float32) / WIDTH**0.5
    return {f"layer{i:02}": kernel for i, kernel in enumerate(kernels)}


def make_stream(num=24, batch_size=8):
    rng = np.random.default_rng(9)
    inputs = rng.standard_normal((num, WIDTH)).astype(np.float32)
    return streams.from_arrays(inputs, rng.integers(0, WIDTH, num), batch_size=batch_size)


@pytest.mark.parametrize(("points", "model", "data"), [(1, 1, 4), (2, 1, 2), (2, 2, 1)])
def test_a_mesh_has_three_axes_of_automatic_type(points, model, data):
    mesh = sharding.make_mesh(points=points, model=model)
    assert dict(mesh.shape) == {"data": data, "points": points, "model": model}
    assert set(mesh.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize(("points", "model"), [(3, 1), (0, 1), (4, 2)])
def test_a_mesh_that_the_devices_do_not_fill(points, model):
    with pytest.raises(ValueError, match=rf"got 4 devices, {points} and {model}"):
        sharding.make_mesh(points=points, model=model)


def test_a_mesh_needs_devices():
    with pytest.raises(ValueError, match="got 0 devices"):
        sharding.make_mesh([])
    with pytest.raises(ValueError, match="each device once"):
        sharding.make_mesh([jax.devices()[0]] * 2)


def test_leaves_are_split_along_their_longest_axis_that_can_be():
    mesh = sharding.make_mesh(model=4)
    params = {
        "kernel": np.zeros((3, 3, 32, 64)),
        "square": np.zeros((128, 128)),
        "odd": np.zeros((4096, 77)),
        "prime": np.zeros((4099, 3)),
        "bias": np.zeros(64),
        "key": jax.random.key(0),
        "scalar": 1.0,
    }
    placed = sharding.place(params, mesh)
    specs = {name: leaf.sharding.spec for name, leaf in placed.items()}
    model, whole = "model", PartitionSpec()
    assert specs == {
        "kernel": PartitionSpec(None, None, None, model),
        "square": PartitionSpec(None, model),
        "odd": PartitionSpec(model),
        "prime": whole,
        "bias": whole,
        "key": whole,
        "scalar": whole,
    }
    assert placed["kernel"].addressable_data(0).shape == (3, 3, 32, 16)
    assert all(leaf.is_fully_replicated for leaf in sharding.replicate(params, mesh).values())


def test_the_mesh_of_arrays():
    one, other = sharding.make_mesh(), sharding.make_mesh(model=2)
    assert sharding.mesh_of({"a": np.ones(4), "b": jnp.ones(4)}) is None
    a, b = (sharding.replicate(np.ones(4), mesh) for mesh in (one, other))
    assert sharding.mesh_of([a, np.ones(2), a]) == one
    with pytest.raises(
        ValueError, match=r"expected arrays on one mesh, got .*'data': 4.*'data': 2"
    ):
        sharding.mesh_of([a, b])
    with pytest.raises(ValueError, match="expected arrays on one mesh"):
        evaluate_path(lambda p, x: p * x, METRIC, paths.line(a, b), np.zeros(1), make_stream())


def test_rows_are_split_where_the_devices_divide_them():
    mesh = sharding.make_mesh(points=2, model=2)
    batch = {"inputs": {"x": np.ones((6, 3)), "rate": np.float32(2)}, "labels": np.arange(6)}
    placed = sharding.place_rows(batch, mesh)
    assert placed["inputs"]["x"].addressable_data(0).shape == (3, 3)
    assert placed["inputs"]["rate"].is_fully_replicated
    odd = sharding.place_rows({"inputs": np.ones((5, 3))}, mesh)
    assert odd["inputs"].is_fully_replicated
    again = sharding.place_rows(placed, mesh)
    assert again["labels"] is placed["labels"]
    assert sharding.place_rows(batch, None) == batch


def test_no_device_holds_a_model_that_is_split():
    mesh = sharding.make_mesh(model=4)
    a, b = (sharding.place(make_params(seed), mesh) for seed in (0, 1))
    batch = sharding.place_rows(next(iter(make_stream()())), mesh)
    one = _chunks.Chunk(1, mesh)
    formed = _chunks._form_traced.lower(paths.line(a, b), jnp.zeros(1), one, None)
    point = evaluation._update.lower(apply_fn, METRIC, one, METRIC.init(), a, batch)
    loss = _mean_loss.make(apply_fn, metrics.softmax_cross_entropy, a, make_stream(), None, None)
    args = loss.static, loss.params, (loss.leaves, loss.leaves), batch
    product = _mean_loss._masked.lower(_operator.hessian_part, *args)
    for lowered, models in ((formed, 3), (point, 1), (product, 3)):
        program = lowered.compile()
        # a quarter of each model, and less than half a model for activations and layers at work
        assert compiled.peak_bytes(program) < (models / 4 + 0.5) * MODEL_BYTES
        held = max((max(c.sizes) for c in compiled.collectives(program)), default=0)
        assert held <= WIDTH**2


def test_points_of_models_that_are_split():
    mesh = sharding.make_mesh(points=2, model=2)
    a, b = (sharding.place(make_params(seed), mesh) for seed in (0, 1))
    two = _chunks.Chunk(2, mesh)
    formed = _chunks._form_traced.lower(paths.line(a, b), jnp.zeros(2), two, None).compile()
    assert compiled.collectives(formed) == []
    assert compiled.peak_bytes(formed) < 2 * MODEL_BYTES  # half of both ends, and of one point


def test_the_distance_of_models_that_are_split_moves_no_weights():
    mesh = sharding.make_mesh(model=4)
    a, b = (sharding.place(make_params(seed), mesh) for seed in (0, 1))
    from tlx.analyses.parameters import distances
    from tlx.core import labels

    modules = labels.from_names(a, str)
    program = jax.jit(lambda a, b: distances.by_module(a, b, modules)[1:]).lower(a, b).compile()
    assert all(max(c.sizes) <= 8 * DEPTH for c in compiled.collectives(program))
    assert compiled.peak_bytes(program) < 1.5 * MODEL_BYTES  # of one device 2 and what it sums


def test_similarity_exchanges_shares_of_features():
    def layers(params, inputs):
        found = {}
        for name, kernel in params.items():
            inputs = found[name] = jnp.tanh(inputs @ kernel)
        return found

    mesh, stream = sharding.make_mesh(model=2), make_stream(num=64, batch_size=32)
    x, y = (dict(list(make_params(seed).items())[:3]) for seed in (0, 1))
    placed = [sharding.place(params, mesh) for params in (x, y)]
    expected = cka_matrix.cka_matrix(layers, x, layers, y, stream)
    found = cka_matrix.cka_matrix(layers, placed[0], layers, placed[1], stream)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-4)

    a, batch = sharding.replicate(x, mesh), sharding.place_rows(next(iter(stream())), mesh)
    fold = _cka_sums.metric(
        tuple(a), None, _cka_sums.Options(kernels.linear(), "flatten", mesh=mesh)
    )
    one = _chunks.Chunk(1, mesh)
    program = evaluation._update.lower(layers, fold, one, fold.init(), a, batch).compile()
    found = compiled.collectives(program)
    # of each layer a share, and sums of Gram matrices: nowhere a layer of all rows
    assert all(sum(c.sizes) < 32 * WIDTH for c in found if c.kind != "all-reduce")
    assert all(max(c.sizes) <= 3 * 32**2 for c in found if c.kind == "all-reduce")


def test_noise_is_the_same_and_is_split_as_the_parameters_are(monkeypatch):
    key, at_once = jax.random.key(3), paths.standard_normal(jax.random.key(3), make_params())
    monkeypatch.setattr(paths, "ALONE", WIDTH**2)
    placed = sharding.place(make_params(), sharding.make_mesh(model=4))
    none, places = frozenset(), sharding.places(placed)
    program = criticality._noise.lower(key, placed, none, places).compile()
    drawn = criticality._noise(key, placed, none, places)
    for name, leaf in drawn.items():
        assert leaf.sharding == placed[name].sharding
        np.testing.assert_array_equal(leaf, at_once[name])
    assert program.memory_analysis().output_size_in_bytes < 0.3 * MODEL_BYTES


def test_points_are_shared_out():
    shared, alone = sharding.make_mesh(points=4), sharding.make_mesh(jax.devices()[:1])
    batch = next(iter(make_stream()()))
    flops = []
    for mesh in (shared, alone):
        a = sharding.place(make_params(), mesh)
        chunk = _chunks.Chunk(4, None if mesh is alone else mesh)
        stack = jax.tree.map(lambda x: jnp.stack([x] * 4), a)
        if mesh is shared:
            stack = jax.device_put(stack, NamedSharding(mesh, PartitionSpec("points")))
        states = _chunks.initial(METRIC, chunk)
        lowered = evaluation._update.lower(apply_fn, METRIC, chunk, states, stack, batch)
        flops.append(compiled.flops(lowered.compile()))
    assert 0.2 < flops[0] / flops[1] < 0.3


@pytest.mark.parametrize("num_points", [1, 3, 5])
@pytest.mark.parametrize("chunk", ["auto", 1, 3])
def test_any_number_of_points_and_chunk(num_points, chunk):
    mesh = sharding.make_mesh(points=2, model=2)
    a, b = make_params(0), make_params(1)
    placed = [sharding.place(params, mesh) for params in (a, b)]
    alphas, stream = np.linspace(0, 1, num_points, dtype=np.float32), make_stream()
    found = evaluate_path(apply_fn, METRIC, paths.line(*placed), alphas, stream, chunk=chunk)
    expected = evaluate_path(apply_fn, METRIC, paths.line(a, b), alphas, stream)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)


def test_models_on_a_mesh_of_ones_own_stay_as_they_are():
    mesh = jax.make_mesh((2, 2), ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2)
    own = NamedSharding(mesh, PartitionSpec("fsdp", "tensor"))
    placed = jax.device_put(make_params(), own)
    found = evaluate(apply_fn, METRIC, placed, make_stream())
    expected = evaluate(apply_fn, METRIC, make_params(), make_stream())
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)


def test_axes_of_explicit_type_are_the_models_own():
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    own = NamedSharding(mesh, PartitionSpec(None, "model"))
    a, b = (jax.device_put(make_params(seed), own) for seed in (0, 1))

    def explicit(params, inputs):
        for kernel in params.values():
            product = jnp.matmul(inputs, kernel, out_sharding=PartitionSpec(None, None))
            inputs = jnp.tanh(product)
        return inputs

    alphas = np.linspace(0, 1, 3, dtype=np.float32)
    with jax.set_mesh(mesh):
        found = evaluate_path(explicit, METRIC, paths.line(a, b), alphas, make_stream())
    line = paths.line(make_params(0), make_params(1))
    expected = evaluate_path(apply_fn, METRIC, line, alphas, make_stream())
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)


def test_the_example_of_the_guide_runs(capsys):
    guide = Path("docs/guides/devices.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    exec(compile(code, "devices.md", "exec"), {})
    assert capsys.readouterr().out.split("\n")[:2] == ["(64, 128)", "(5,) (2, 2)"]
