import functools
import itertools
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

from tests.core import models
from tests.helpers import batch_norm, tiny_models
from tlx import models as tlx_models
from tlx.analyses.parameters import distances, movement
from tlx.core import batch_statistics, partition, tree
from tlx.core import labels as labels_lib

FIELDS = ("norm", "displacement", "step", "path", "straightness", "turn", "to_end")


def _labels(params):
    return labels_lib.from_names(params, lambda name: name.split("/")[0])


def _run(num=5, seed=0):
    run = [models.make_params(seed + i) for i in range(num)]
    return run, _labels(run[0])


def _vector(params):
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(params)]
    return np.concatenate(leaves)


def _cosine(x, y):
    return x @ y / (np.linalg.norm(x) * np.linalg.norm(y))


def _moved(vectors, end):
    """The fields of a movement from the formulas, [T] each."""
    start, steps = vectors[0], np.diff(vectors, axis=0)
    length = [np.linalg.norm(step) for step in steps]
    displacement = [np.linalg.norm(v - start) for v in vectors]
    path = [sum(length[:t]) for t in range(len(vectors))]
    return {
        "norm": [np.linalg.norm(v) for v in vectors],
        "displacement": displacement,
        "step": length,
        "path": path,
        "straightness": [d / p if p else np.nan for d, p in zip(displacement, path, strict=True)],
        "turn": [_cosine(a, b) for a, b in itertools.pairwise(steps)],
        "to_end": [_cosine(step, end - start) for step in steps],
    }


def _assert_movements_equal(got, expected, **tolerance):
    for name in FIELDS:
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), **tolerance)


def test_trajectory_is_the_formulas_in_float64():
    run, labels = _run()
    end = models.make_params(9)
    got = movement.trajectory(iter(run), labels, end=end)
    assert got.modules == ("head", "hidden")
    for i, module in enumerate(got.modules):
        expected = _moved([_vector(p[module]) for p in run], _vector(end[module]))
        for name in FIELDS:
            found = getattr(got.by_module, name)
            assert found.dtype == np.float64
            np.testing.assert_allclose(found[:, i], expected[name], rtol=2e-6, atol=1e-6)
    expected = _moved([_vector(p) for p in run], _vector(end))
    for name in FIELDS:
        found = getattr(got.total, name)
        np.testing.assert_allclose(found, expected[name], rtol=2e-6, atol=1e-6)


@given(seed=st.integers(0, 30), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_trajectory_laws(seed, scale):
    run, labels = _run(4, seed)
    got = movement.trajectory(run, labels, end=run[-1])
    for moved in (got.by_module, got.total):
        assert (moved.displacement <= moved.path * (1 + 1e-6)).all()
        assert (moved.straightness[1:] >= 0).all()
        assert (moved.straightness[1:] <= 1).all()
        assert (np.abs(moved.turn) <= 1).all()
    by_module, total = got.by_module, got.total
    np.testing.assert_allclose(total.displacement, np.linalg.norm(by_module.displacement, axis=1))
    toward = (total.to_end * total.step).sum()  # the steps add up to the displacement
    np.testing.assert_allclose(toward, total.displacement[-1], rtol=1e-5)
    bigger = [jax.tree.map(lambda x: scale * x, p) for p in run]
    bigger = movement.trajectory(bigger, labels, end=bigger[-1])
    for name in FIELDS:
        grows = scale if name in ("norm", "displacement", "step", "path") else 1
        expected = grows * getattr(got.by_module, name)
        np.testing.assert_allclose(getattr(bigger.by_module, name), expected, rtol=1e-4, atol=1e-5)


def test_a_straight_line_however_it_is_cut():
    a, b = models.make_params(0), models.make_params(1)
    labels = _labels(a)
    few = movement.trajectory([a, b], labels, end=b)
    many = movement.trajectory([tree.lerp(a, b, t) for t in (0, 0.1, 0.5, 0.7, 1)], labels, end=b)
    for name in ("path", "displacement", "straightness"):
        expected = getattr(few.by_module, name)[-1]
        np.testing.assert_allclose(getattr(many.by_module, name)[-1], expected, rtol=1e-5)
    np.testing.assert_allclose(many.by_module.straightness[1:], 1, rtol=1e-5)
    np.testing.assert_allclose(many.by_module.turn, 1, rtol=1e-5)
    np.testing.assert_allclose(many.by_module.to_end, 1, rtol=1e-5)


def test_there_and_back():
    a, b = models.make_params(0), models.make_params(1)
    got = movement.trajectory([a, b, a], _labels(a), end=a)
    np.testing.assert_array_equal(got.total.displacement[-1], 0)
    np.testing.assert_array_equal(got.total.straightness[-1], 0)
    np.testing.assert_allclose(got.total.turn, -1, rtol=1e-6)
    assert np.isnan(got.total.to_end).all()


def test_few_checkpoints_are_held():
    loaded, alive = [], []

    def load():
        for i in range(8):
            params = models.make_params(i)
            loaded.append(weakref.ref(params["head"]["kernel"]))
            alive.append(sum(leaf() is not None for leaf in loaded))
            yield params
            del params

    labels = _labels(models.make_params(0))
    got = movement.trajectory(load(), labels)
    assert alive == [1, 2, 3, 4, 4, 4, 4, 4]  # the start and three
    expected = movement.trajectory([models.make_params(i) for i in range(8)], labels)
    np.testing.assert_array_equal(got.total.turn, expected.total.turn)


def test_modules_in_any_order_and_heads_of_another_shape():
    run, labels = _run()
    got = movement.trajectory(run, labels, end=run[2])
    other = movement.trajectory(run, labels, modules=("hidden", "head"), end=run[2])
    assert other.modules == ("hidden", "head")
    flipped = movement.Movement(*(field[:, ::-1] for field in got.by_module))
    _assert_movements_equal(other.by_module, flipped, rtol=0)
    _assert_movements_equal(other.total, got.total, rtol=1e-12)
    run[0] = models.make_params(0, classes=7)
    body = movement.trajectory(run, labels, modules=("hidden",), end=run[2])
    for name in FIELDS:
        expected = getattr(got.by_module, name)[:, 1]
        np.testing.assert_array_equal(getattr(body.total, name), expected)


def test_what_does_not_move_has_no_direction():
    a, b = models.make_params(0), models.make_params(1)
    frozen = [a, {**b, "head": a["head"]}, {**a, "hidden": b["hidden"]}]
    got = movement.trajectory(frozen, _labels(a), end=b)
    head = got.modules.index("head")
    np.testing.assert_array_equal(got.by_module.path[:, head], 0)
    for name in ("straightness", "turn"):
        assert np.isnan(getattr(got.by_module, name)[:, head]).all()
    assert np.isnan(got.by_module.turn[:, 1 - head]).all()  # the second step is none
    one = movement.trajectory([a], _labels(a))
    assert one.by_module.displacement.shape == one.by_module.path.shape == (1, 2)
    assert one.by_module.step.shape == one.by_module.turn.shape == (0, 2)
    assert one.total.to_end is None


def test_not_a_number_stays_in_its_module():
    run, labels = _run(4)
    for value in (np.nan, np.inf):
        run[2] = {**run[2], "head": jax.tree.map(lambda x: x * 0 + value, run[2]["head"])}  # noqa: B023
        got = movement.trajectory(run, labels)
        assert np.isfinite(got.by_module.path[:, 1]).all()
        assert not np.isfinite(got.by_module.path[2:, 0]).any()
        assert np.isnan(got.total.turn).all()


def test_counters_are_passed_over_and_low_precision_is_summed_in_float32():
    at = lambda w, n: {"w": jnp.full(10_000, w, jnp.bfloat16), "n": jnp.int32(n)}  # noqa: E731
    labels = {"w": "w", "n": "n"}
    got = movement.trajectory([at(1, 0), at(0, 50)], labels)
    assert got.modules == ("n", "w")
    np.testing.assert_array_equal(got.by_module.path[1], [0, 100])
    found = movement.alignment_of_movement(at(0, 9), at(3, 4), labels, start=at(1, 0))
    np.testing.assert_array_equal(found.by_module.size, [0, 10_000])
    np.testing.assert_array_equal(found.by_module.cosine, [np.nan, -1])
    np.testing.assert_array_equal(found.by_module.z, [np.nan, -100])
    assert found.total.size == 10_000


def test_alignment_is_the_formula_in_float64():
    (p, q, a, b), labels = _run(4)
    got = movement.alignment_of_movement(a, b, labels, start=p, start_b=q)
    back = movement.alignment_of_movement(b, a, labels, start=q, start_b=p)
    rows = {m: [_vector(x[m]) for x in (p, q, a, b)] for m in got.modules}
    rows["total"] = [_vector(x) for x in (p, q, a, b)]
    for i, (name, (p, q, a, b)) in enumerate(rows.items()):
        found = got.total if name == "total" else got.by_module
        values = [np.ravel(field)[0 if name == "total" else i] for field in found]
        chance = 1 / np.sqrt(p.size)
        cosine = _cosine(a - p, b - q)
        lengths = [np.linalg.norm(a - p), np.linalg.norm(b - q)]
        expected = [cosine, chance, cosine / chance, *lengths, p.size]
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(back.by_module.cosine, got.by_module.cosine, rtol=1e-6)
    np.testing.assert_array_equal(back.by_module.length_a, got.by_module.length_b)


def test_alignment_of_equal_opposite_and_no_movement():
    p, a = models.make_params(0), models.make_params(1)
    labels = _labels(p)
    back = tree.add(p, tree.sub(a, p), -2.0)
    cosines = [
        movement.alignment_of_movement(a, b, labels, start=p).by_module.cosine for b in (a, back, p)
    ]
    for cosine, expected in zip(cosines, (1, -1, np.nan), strict=True):
        np.testing.assert_allclose(cosine, [expected] * 2, rtol=1e-5)


def test_chance_is_the_spread_of_random_directions():
    rng = np.random.default_rng(0)
    zero, z = {"w": jnp.zeros((4, 6))}, []
    for _ in range(400):
        a, b = ({"w": jnp.asarray(x, jnp.float32)} for x in rng.standard_normal((2, 4, 6)))
        z.append(movement.alignment_of_movement(a, b, {"w": "w"}, start=zero).total.z)
    assert abs(np.mean(z)) < 4 / np.sqrt(400)
    assert abs(np.std(z) - 1) < 4 / np.sqrt(800)


def _matrix(rng, n, m):
    return rng.standard_normal((n, m)).astype(np.float32)


def _projection_overlap(a, b, rank):
    """tr(P_a P_b) / r of the projections on the leading left singular vectors."""
    sides = [np.linalg.svd(x.astype(np.float64))[0][:, :rank] for x in (a, b)]
    left, right = (u @ u.T for u in sides)
    return np.trace(left @ right) / rank


@pytest.mark.parametrize("rank", [1, 3])
def test_subspace_overlap_is_that_of_the_projections(rank):
    rng = np.random.default_rng(0)
    a, b = (
        {"conv": rng.standard_normal((2, 2, 3, 5)).astype(np.float32), "dense": _matrix(rng, 7, 4),
         "wide": _matrix(rng, 4, 9),
         "bias": np.ones(4, np.float32), "count": np.ones((3, 3), np.int32)}
        for _ in range(2)
    )  # fmt: skip
    got = movement.subspace_overlap(a, b, rank=rank)
    assert got.leaves == ("conv", "dense", "wide")
    for i, (name, outputs) in enumerate((("conv", 5), ("dense", 4), ("wide", 9))):
        x, y = a[name].reshape(-1, outputs), b[name].reshape(-1, outputs)
        np.testing.assert_allclose(got.inputs[i], _projection_overlap(x, y, rank), rtol=1e-6)
        np.testing.assert_allclose(got.outputs[i], _projection_overlap(x.T, y.T, rank), rtol=1e-6)
    np.testing.assert_allclose(got.inputs_chance, [rank / 12, rank / 7, rank / 4])
    np.testing.assert_allclose(got.outputs_chance, [rank / 5, rank / 4, rank / 9])
    swapped = movement.subspace_overlap(b, a, rank=rank)
    np.testing.assert_allclose(swapped.inputs, got.inputs, rtol=1e-9)
    turned = [{k: np.moveaxis(v, -1, 0) for k, v in x.items()} for x in (a, b)]
    turned = movement.subspace_overlap(*turned, rank=rank, output_axis=0)
    np.testing.assert_allclose(turned.inputs, got.inputs, rtol=1e-9)


def test_same_and_orthogonal_subspaces():
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    mixed = np.linalg.qr(rng.standard_normal((2, 2)))[0]
    of = lambda u: {"w": jnp.asarray(u @ _matrix(rng, 2, 6), jnp.float32)}  # noqa: E731
    a, same, other = of(basis[:, :2]), of(basis[:, :2] @ mixed), of(basis[:, 2:4])
    assert movement.subspace_overlap(a, same, rank=2).inputs[0] > 1 - 1e-9
    assert movement.subspace_overlap(a, a, rank=2).outputs[0] > 1 - 1e-9
    assert movement.subspace_overlap(a, other, rank=2).inputs[0] < 1e-9


def test_subspaces_by_chance():
    rng = np.random.default_rng(2)
    draw = lambda: {str(i): _matrix(rng, 10, 4) for i in range(300)}  # noqa: E731
    got = movement.subspace_overlap(draw(), draw(), rank=2)
    np.testing.assert_allclose(got.inputs.mean(), got.inputs_chance[0], atol=0.02)
    np.testing.assert_allclose(got.outputs.mean(), got.outputs_chance[0], atol=0.04)


def test_subspaces_that_are_not_defined():
    rng = np.random.default_rng(3)
    full = _matrix(rng, 6, 4)
    low = _matrix(rng, 6, 2) @ _matrix(rng, 2, 4)
    bad = {"low": low, "zero": 0 * full, "tied": np.eye(6, 4, dtype=np.float32),
           "nan": full * np.nan, "full": full}  # fmt: skip
    got = movement.subspace_overlap(bad, dict.fromkeys(bad, full), rank=3)
    for side in (got.inputs, got.outputs):
        assert dict(zip(got.leaves, np.isfinite(side), strict=True)) == {
            name: name == "full" for name in bad
        }
    assert np.isfinite(movement.subspace_overlap(bad, bad, rank=2).inputs).tolist() == [
        name in ("full", "low") for name in sorted(bad)
    ]
    assert np.isnan(movement.subspace_overlap(bad, bad, rank=5).inputs).all()


def test_principal_overlap_is_that_of_the_directions():
    a, b = ([models.make_params(s + i) for i in range(n)] for s, n in ((0, 4), (50, 5)))
    a = [p | {"n": jnp.int32(3)} for p in a]
    b = [p | {"n": jnp.int32(3)} for p in b]
    got = movement.principal_overlap(a, b, rank=2)
    bases, explained = [], []
    for run in (a, b):
        x = np.stack([_vector({k: v for k, v in p.items() if k != "n"}) for p in run])
        _, s, v = np.linalg.svd(x - x.mean(0), full_matrices=False)
        bases.append(v[:2])
        explained.append((s[:2] ** 2).sum() / (s**2).sum())
    expected = ((bases[0] @ bases[1].T) ** 2).sum() / 2
    np.testing.assert_allclose(got.overlap, expected, rtol=1e-6)
    np.testing.assert_allclose((got.explained_a, got.explained_b), explained, rtol=1e-6)
    assert got.chance == 2 / bases[0].shape[1]


def test_principal_overlap_of_the_same_and_of_orthogonal_planes():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    run = lambda axes, n: [  # noqa: E731
        {"w": jnp.asarray(rng.standard_normal(len(axes)) @ basis[axes] + 3, jnp.float32)}
        for _ in range(n)
    ]
    a = run([0, 1], 5)
    assert movement.principal_overlap(a, run([0, 1], 4), rank=2).overlap > 1 - 1e-6
    assert movement.principal_overlap(a, a[::-1], rank=1).overlap > 1 - 1e-9
    assert movement.principal_overlap(a, run([2, 3], 6), rank=2).overlap < 1e-6
    flat = movement.principal_overlap(a, run([0, 1], 4), rank=3)
    assert np.isnan(flat.overlap)  # there are two directions and rounding
    np.testing.assert_allclose(flat.explained_a, 1, rtol=1e-9)
    wide = [{"w": rng.standard_normal(2) @ basis[:2]} for _ in range(5)]  # float64, about 0
    assert movement.principal_overlap(wide, wide, rank=2).overlap > 1 - 1e-9
    assert np.isnan(movement.principal_overlap(wide, wide, rank=3).overlap)
    assert np.isnan(movement.principal_overlap(a[:2], a, rank=2).overlap)
    still = movement.principal_overlap([a[0], a[0]], a, rank=1)
    assert np.isnan(still.overlap)
    assert np.isnan(still.explained_a)
    broken = [{"w": a[0]["w"] * jnp.nan}, *a]
    assert np.isnan(movement.principal_overlap(broken, a, rank=1).overlap)


@pytest.mark.parametrize("framework", tiny_models.FRAMEWORKS)
def test_scale_invariant_leaves_of_every_framework(framework):
    tiny = tiny_models.make(framework, 0)
    inputs = tiny_models.make_inputs(16)[0]
    (got,) = movement.scale_invariant_leaves(tiny.apply_fn, tiny.params, inputs)
    roles = ("hidden/kernel", "hidden/bias", "norm/mean", "norm/var")
    assert (got.kernel, got.bias, got.mean, got.var) == tuple(tiny.roles[x] for x in roles)
    wide = lambda n, x: x + 30 if n == got.var else x  # noqa: E731, so that ε is nothing
    params = tree.map_named(wide, tiny.params)
    same = movement.normalised(params, [got])
    apply_fn = jax.jit(tiny.apply_fn)
    np.testing.assert_allclose(
        apply_fn(same, inputs), apply_fn(params, inputs), rtol=1e-3, atol=1e-3
    )
    leaves = tree.named_leaves(same)
    kernel = np.asarray(leaves[got.kernel], np.float64)
    np.testing.assert_array_equal(leaves[got.bias], 0)
    np.testing.assert_allclose((kernel**2).sum(1 - got.filter_axis), 1, rtol=1e-6)


@pytest.mark.parametrize(("name", "num"), [("resnet18", 20), ("resnet50", 53)])
def test_all_kernels_of_a_resnet_but_its_heads_are_scale_invariant(name, num):
    model = tlx_models.make(name, num_classes=3, width=4)
    inputs = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), inputs)
    got = movement.scale_invariant_leaves(model.apply, params, inputs)
    assert {x.kernel for x in got} == {
        name for name, leaf in tree.named_leaves(params).items() if len(leaf.shape) == 4
    }
    assert len(got) == num
    assert {(x.filter_axis, x.bias, x.factor) for x in got} == {(3, None, 1.0)}


class _Net(nn.Module):
    """Convolutions, one of them of each channel alone, and a dense layer before its head."""

    @nn.compact
    def __call__(self, x, train=False):
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, epsilon=1e-6)
        x = nn.relu(norm()(nn.Conv(4, (3, 3))(x)))
        x = nn.relu(norm()(nn.Conv(4, (3, 3), feature_group_count=4, use_bias=False)(x)))
        x = nn.relu(norm()(nn.Dense(6)(x.mean((1, 2)))))
        return nn.Dense(3)(x)


@functools.cache
def _net():
    inputs = jnp.asarray(np.random.default_rng(1).standard_normal((16, 5, 5, 2)), jnp.float32)
    rng = np.random.default_rng(0)
    fixed = {"bias": 0.2, "scale": 1.0, "mean": 0.0, "var": 1.0}

    def draw(name, leaf):
        value = fixed.get(name.split("/")[-1], rng.standard_normal(leaf.shape) / 2)
        return jnp.broadcast_to(jnp.asarray(value, jnp.float32), leaf.shape)

    params = tree.map_named(draw, jax.eval_shape(_Net().init, jax.random.key(1), inputs))
    train = jax.jit(lambda p: _Net().apply(p, inputs, train=True, mutable=["batch_stats"])[0])
    evaluate = jax.jit(_Net().apply)
    leaves = movement.scale_invariant_leaves(_Net().apply, params, inputs)
    stream = lambda: iter([{"inputs": inputs, "mask": np.ones(16, bool)}])  # noqa: E731
    settle = functools.partial(batch_statistics.reestimate, _Net().apply, stream=stream)
    return params, leaves, train, lambda p: evaluate(p, inputs), settle


def _scaled(params, kernel, axis):
    """The parameters with random factors along an axis of a kernel."""
    value = np.asarray(tree.named_leaves(params)[kernel])
    shape = [1] * value.ndim
    shape[axis] = value.shape[axis]
    value = jnp.asarray(value * np.random.default_rng(0).uniform(0.5, 2, shape).astype(np.float32))
    return tree.map_named(lambda n, x: value if n == kernel else x, params)


def test_scale_invariant_leaves_leave_training_as_it_is_and_no_others():
    params, leaves, train, *_ = _net()
    axes = {x.kernel: x.filter_axis for x in leaves}
    assert axes == {
        "params/Conv_0/kernel": 3,
        "params/Conv_1/kernel": 3,
        "params/Dense_0/kernel": 1,
    }
    out = train(params)
    for kernel, axis in axes.items():
        np.testing.assert_allclose(train(_scaled(params, kernel, axis)), out, rtol=1e-3, atol=1e-3)
        other = train(_scaled(params, kernel, 0))  # along its window or its inputs
        assert np.abs(other - out).max() > 0.02
    assert np.abs(train(_scaled(params, "params/Dense_1/kernel", 1)) - out).max() > 0.02


def test_normalised_distances_do_not_see_the_scale_of_filters():
    params, leaves, _, evaluate, settle = _net()
    other = functools.reduce(lambda p, x: _scaled(p, x.kernel, x.filter_axis), leaves, params)
    params, other = settle(params), settle(other)
    labels = partition.by_level(params, "layer")
    raw = distances.by_module(params, other, labels)
    fair = distances.by_module(*(movement.normalised(p, leaves) for p in (params, other)), labels)
    for name, relative in zip(raw.modules, raw.relative, strict=True):
        assert (relative > 0.1) == (name != "Dense_1")  # the head alone is as it was
    np.testing.assert_allclose(fair.relative, 0, atol=1e-3)
    fair = movement.normalised(params, leaves)
    np.testing.assert_allclose(evaluate(fair), evaluate(params), rtol=2e-3, atol=2e-3)


def test_normalised_treats_the_leaves_it_is_told_and_no_others():
    params, leaves, *_ = _net()
    got = tree.named_leaves(movement.normalised(params, leaves[:1]))
    changed = {n for n, x in tree.named_leaves(params).items() if (x != got[n]).any()}
    assert changed == set(leaves[0][:1] + leaves[0][2:5])


def _one_norm(before):
    """A layer with batch norm; `before` makes what it normalises."""

    def apply_fn(p, x):
        y = before(p, x)
        mean, scale = p["mean"][None], p["scale"][None]
        y = (y - mean) * jax.lax.rsqrt(p["var"][None] + 1e-3) * scale
        return jax.nn.relu(y) @ p["head"]

    return apply_fn


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (lambda p, x: x @ p["w"], True),
        (lambda p, x: (x @ p["w"]) + p["b"][None], True),
        (lambda p, x: p["b"][None] + x @ p["w"].astype(jnp.float32), True),
        (lambda p, x: jnp.reshape(x @ p["w"], (-1, 1, 4))[:, 0] * 1, False),  # sliced, times 1
        (lambda p, x: jnp.tanh(x @ p["w"]), False),
        (lambda p, x: x @ p["w"] + x @ p["v"], False),
        (lambda p, x: x @ p["w"] + p["rows"], False),  # another bias for each example
        (lambda p, x: (x @ p["w"] + p["b"][None]) + p["b"][None], False),
        (lambda p, x: x @ p["w"] @ p["square"] @ p["square"], False),  # serves twice
        (lambda p, x: x @ jnp.exp(p["w"]), False),
        (lambda p, x: x @ (p["w"] - jnp.mean(p["w"], 0, keepdims=True)), False),
        (lambda p, x: x @ p["w"] + 2 * p["b"][None], False),
        (lambda p, x: (x + p["b"].sum()) @ p["w"] + p["b"][None], False),
    ],
)
def test_what_is_scale_invariant(before, expected):
    shapes = {"w": (5, 4), "v": (5, 4), "square": (4, 4), "rows": (6, 4), "head": (4, 3)}
    shapes |= dict.fromkeys(("b", "mean", "var", "scale"), (4,))
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    inputs = jax.ShapeDtypeStruct((6, 5), jnp.float32)
    got = movement.scale_invariant_leaves(_one_norm(before), params, inputs)
    assert [x.kernel for x in got] == (["w"] if expected else [])


def test_a_layer_whose_output_goes_round_its_norm_is_not_scale_invariant():
    norm = _one_norm(lambda p, x: x @ p["w"])
    params = {name: jnp.ones(4) for name in ("mean", "var", "scale")}
    params |= {"w": jnp.ones((5, 4)), "head": jnp.ones((4, 3))}

    def around(p, x):
        y = x @ p["w"]
        return _one_norm(lambda p, x: y)(p, x) + y[:, :3]

    found = [movement.scale_invariant_leaves(f, params, jnp.ones((2, 5))) for f in (norm, around)]
    assert [len(x) for x in found] == [1, 0]


def test_models_without_batch_norm_have_no_scale_invariant_leaves():
    params = models.make_params(0)
    inputs = models.make_data(4)[0]
    assert movement.scale_invariant_leaves(models.apply_fn, params, inputs) == ()
    jax.tree.map(np.testing.assert_array_equal, movement.normalised(params, ()), params)


def test_a_filter_of_zeros_has_no_direction():
    params = batch_norm.make_params(0)
    inputs = jnp.ones((3, batch_norm.FEATURES))
    leaves = movement.scale_invariant_leaves(batch_norm.apply_fn, params, inputs)
    assert [x.kernel for x in leaves] == ["layers/0/kernel", "layers/1/kernel"]
    params["layers"][0]["kernel"] = params["layers"][0]["kernel"].at[:, 2].set(0)
    got = movement.normalised(params, leaves)["layers"][0]
    for name in ("kernel", "mean", "var"):
        nan = np.isnan(np.atleast_2d(got[name])).any(0)
        np.testing.assert_array_equal(nan, np.arange(batch_norm.WIDTH) == 2)


def test_errors():
    run, labels = _run(3)
    p, a, b = run
    with pytest.raises(ValueError, match="expected at least one checkpoint, got none"):
        movement.trajectory([], labels)
    with pytest.raises(ValueError, match="unknown module 'haed'; did you mean 'head'"):
        movement.trajectory(run, labels, modules=("haed",))
    with pytest.raises(
        ValueError, match=r"checkpoints\[0\] and checkpoints\[1\] with the same leaves"
    ) as e:
        movement.trajectory([p, models.make_params(1, classes=7)], labels)
    assert "head/kernel" in str(e.value)
    with pytest.raises(ValueError, match=r"checkpoints\[0\] and end with the same leaves"):
        movement.trajectory(run, labels, end=models.make_params(1, classes=7))
    with pytest.raises(ValueError, match="start and end_b with the same leaves"):
        movement.alignment_of_movement(a, models.make_params(1, classes=7), labels, start=p)
    with pytest.raises(ValueError, match="unknown module 'x'"):
        movement.alignment_of_movement(a, b, labels, start=p, modules=("x",))
    with pytest.raises(ValueError, match="expected a rank of at least 1, got 0"):
        movement.subspace_overlap(a, b, rank=0)
    with pytest.raises(ValueError, match="expected at least one floating leaf with two or more"):
        movement.subspace_overlap({"b": jnp.ones(3)}, {"b": jnp.ones(3)}, rank=1)
    with pytest.raises(ValueError, match="expected a rank of at least 1, got 0"):
        movement.principal_overlap(run, run, rank=0)
    with pytest.raises(ValueError, match="two or more checkpoints in checkpoints_b, got 1"):
        movement.principal_overlap(run, [a], rank=1)
    with pytest.raises(
        ValueError, match=r"checkpoints_a\[0\] and checkpoints_b\[1\] with the same leaves"
    ):
        movement.principal_overlap(run, [a, models.make_params(1, classes=7)], rank=1)
    lost = movement.ScaleInvariant("kernl", 1, None, "mean", "var", 1.0)
    with pytest.raises(ValueError, match="unknown leaf 'kernl'"):
        movement.normalised({"kernel": jnp.ones((2, 2))}, [lost])


def test_movement_compiles_once_for_models_of_one_shape():
    run, labels = _run(4)
    movement.trajectory(run[:1], labels)
    before = movement._step_sums._cache_size()
    movement.trajectory(run, labels, end=run[1])
    assert movement._step_sums._cache_size() == before
