"""The table of `tlx.analyses`: what each analysis does with each kind of leaf."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tlx.analyses
from tlx.analyses.landscape import (
    averaging,
    basins,
    connectivity,
    curvature,
    directions,
    interpolation,
    planes,
    sharpness,
    trajectories,
)
from tlx.analyses.landscape.modules import criticality, pac_bayes, rewinding
from tlx.analyses.landscape.permutations import alignment
from tlx.analyses.parameters import distances, movement, spectra
from tlx.core import labels, metrics, paths, streams, tree

KINDS = ("floating", "complex", "whole", "constant")
ROW = re.compile(r"^    (\S+) {2,}(.+)$", re.MULTILINE)
TABLE = {
    name: dict(zip(KINDS, re.split(r" {2,}", cells.strip()), strict=True))
    for name, cells in ROW.findall(tlx.analyses.__doc__)
    if name != "analysis"
}
RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((8, 4)).astype(np.float32)
STREAM = streams.from_arrays(INPUTS, RNG.integers(0, 3, 8), batch_size=8)
LOSS = metrics.softmax_cross_entropy
KEY = jax.random.key(0)


def leaf(kind, seed):
    rng = np.random.default_rng(100 + seed)
    real, imag = rng.standard_normal((2, 4, 4)).astype(np.float32)
    return {
        "floating": jnp.asarray(real),
        "complex": jax.lax.complex(jnp.asarray(real), jnp.asarray(imag)),
        "whole": jnp.arange(16).reshape(4, 4),
        "constant": jnp.full((4, 4), -jnp.inf),
    }[kind]


@functools.cache
def model(kind, seed):
    w = np.random.default_rng(seed).standard_normal((4, 3)).astype(np.float32)
    return {"w": jnp.asarray(w), "x": leaf(kind, seed)}


def models(kind):
    return [model(kind, seed) for seed in range(3)]


def apply_fn(params, inputs):
    gates = sum(gates_of(x) for name, x in params.items() if name not in ("w", "v"))
    return (inputs * (0.2 + gates)[None]) @ params["w"]


def gates_of(x):
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        x = x.astype(jnp.float32) / 16
    if jnp.iscomplexobj(x):
        return jnp.sum(jnp.square(jnp.abs(jnp.sin(x))), 0)
    return jax.nn.sigmoid(x).sum(0)


def modules(kind):
    return labels.from_names(model(kind, 0), lambda name: name)


def word(kind, before, after):
    """What happened to a leaf between two places."""
    if jnp.issubdtype(before.dtype, jnp.inexact):
        assert not jnp.isnan(after).any()
    if not (before != after).any():
        return "stays"
    if kind != "complex":
        return "moves"
    assert (before.real != after.real).all()
    assert (before.imag != after.imag).all()
    return "both parts"


def along(make):
    """The word of a path: its point between models of all kinds of leaves, beside the first one."""

    @functools.cache
    def point():
        path_fn, at = make()
        return paths.at(path_fn, at)

    return lambda kind: word(kind, mixed(0)[kind], point()[kind])


@functools.cache
def mixed(seed):
    """A model with a leaf of each kind: what is compiled for it is compiled once."""
    of_each = {kind: leaf(kind, seed) for kind in KINDS}
    return {"w": model("floating", seed)["w"], **of_each}


def mixed_models():
    return [mixed(seed) for seed in range(3)]


def mixed_modules():
    return labels.from_names(mixed(0), lambda name: name)


def on_line():
    a, b, _ = mixed_models()
    line = interpolation.line(apply_fn, metrics.mean(LOSS), a, b, STREAM, alphas=[0.0, 0.5, 1.0])
    assert np.isfinite(line.results).all()
    return paths.line(a, b), 0.3


def on_curve():
    a, b, _ = mixed_models()
    curve = connectivity.straight(a, b)
    assert np.isfinite(
        connectivity.evaluate_curve(apply_fn, LOSS, curve, STREAM, num_points=3).length
    )
    return connectivity.path(curve), 0.3


def in_plane():
    plane = planes.through(*mixed_models())
    for m, corner in zip(mixed_models(), plane.coordinates, strict=True):
        jax.tree.map(np.testing.assert_array_equal, paths.at(plane.path_fn, corner), m)
    assert planes.project(plane, mixed(1)).distance < 1e-4
    return plane.path_fn, jnp.asarray([0.3, 0.4])


def in_components():
    found = trajectories.principal_components(mixed_models())
    np.testing.assert_allclose(tree.norm(found.directions[0]), 1, atol=1e-5)
    return found.path_fn, jnp.asarray([0.3, 0.4])


def in_soup():
    soup = averaging.uniform_soup(mixed_models())
    return (lambda _: soup), 0.0


def in_basin():
    found = basins.basin(
        apply_fn, LOSS, mixed_models()[:2], STREAM, deltas=[0.0, 0.1], key=KEY, num_draws=2
    )
    assert np.isfinite(found.noise.excess).all()
    path_fn = paths.noisy(paths.hull(mixed_models()[:2]))
    return path_fn, (jnp.asarray([1.0, 0.0]), 0.1, KEY)


def critical():
    line = paths.line(*mixed_models()[:2])
    found = criticality.surface(
        apply_fn, line, STREAM, labels=mixed_modules(), alphas=[0.0, 1.0], sigmas=[0.1], key=KEY,
        num_draws=1, losses={"loss": LOSS},
    )  # fmt: skip
    assert np.isfinite(found.losses["loss"]).all()
    sizes = dict(zip(found.modules, found.sizes, strict=True))
    assert sizes == {"w": 12, "floating": 16, "complex": 32, "whole": 0, "constant": 16}
    for kind in KINDS:
        got = found.distances[list(found.modules).index(kind), 1]
        assert got == pytest.approx(apart(kind), rel=1e-5)
    noise = criticality._noise(KEY, mixed(0), frozenset())
    return paths.shifted(line, noise), (jnp.zeros(()), 0.1)


def bounded():
    line = paths.line(*mixed_models()[:2])
    modules = ["w", *KINDS]
    errors = pac_bayes.noisy_errors(
        apply_fn, line, STREAM, labels=mixed_modules(), modules=modules, alphas=np.zeros(5),
        sigmas=np.full(5, 0.1), key=KEY, num_draws=1,
    )  # fmt: skip
    assert np.isfinite(errors).all()
    scales = jax.tree.map(lambda _: jnp.float32(0.1), mixed(0))
    return (lambda key: pac_bayes._noisy(mixed(0), scales, key)), KEY


def in_direction():
    found = directions.random_direction(KEY, mixed(0))
    return (lambda s: tree.add(mixed(0), found, s)), 0.5


def sharp():
    found = sharpness.in_ball(
        apply_fn, LOSS, mixed(0), STREAM, radius=0.1, key=KEY, steps=2, restarts=2
    )
    assert np.isfinite(found.losses).all()
    return (lambda s: tree.add(mixed(0), found.perturbation, s)), 1.0


def curved(kind):
    of = curvature.hessian(apply_fn, LOSS, model(kind, 0), STREAM)
    if of.size == 12:
        return "stays"
    rows = np.stack([np.asarray(of.product(row)) for row in np.eye(of.size, dtype=np.float32)])
    np.testing.assert_allclose(rows, rows.T, atol=1e-5)
    diagonal = np.diag(rows)[12:]
    if kind == "complex":
        assert of.size == 12 + 32
        assert (diagonal != 0).sum() > 16
        return "both parts"
    return "moves" if diagonal.any() else "zero"


def rewound(kind):
    a, b = model(kind, 0), model("whole" if kind == "whole" else kind, 1)
    if kind == "whole":
        b = {**b, "x": b["x"][::-1]}
    found = rewinding.rewind(
        apply_fn, metrics.mean(LOSS), a, [b], STREAM, labels=modules(kind), modules=["x"]
    )
    outputs = apply_fn({**a, "x": b["x"]}, INPUTS)
    loss = LOSS(outputs, next(STREAM())).mean()
    assert float(found.results[0, 0]) == pytest.approx(float(loss), rel=1e-5)
    return "goes along"


def apart(kind):
    a, b = (np.asarray(model(kind, seed)["x"]) for seed in (0, 1))
    return 0.0 if kind == "constant" else np.sqrt(np.sum(np.abs(a.astype(complex) - b) ** 2))


def counting(measure):
    """The word of a length, which has its right value."""

    def check(kind):
        found = measure(kind)
        assert found == pytest.approx(apart(kind), rel=1e-5)
        return "left out" if found == 0 else "both parts" if kind == "complex" else "counts"

    return check


def moved(kind):
    run = movement.trajectory(models(kind)[:2], modules(kind), modules=["x"])
    a, b, start = models(kind)
    both = movement.alignment_of_movement(a, b, modules(kind), start=start, modules=["x"])
    assert int(both.total.size) == {"floating": 16, "complex": 32, "whole": 0, "constant": 16}[kind]
    assert np.isfinite(both.total.cosine) == (kind in ("floating", "complex"))
    return run.total.path[-1]


def distance(kind):
    found = distances.by_module(*models(kind)[:2], modules(kind), modules=["x"])
    assert not np.isinf(found.relative).any()
    return float(found.total_l2)


def subspace(kind):
    found = movement.subspace_overlap(*models(kind)[:2], rank=2)
    if "x" not in found.leaves:
        return "left out"
    value = found.inputs[found.leaves.index("x")]
    if kind == "constant":
        assert np.isnan(value)
        assert not np.isnan(found.inputs[0])
        return "NaN"
    u = [np.linalg.svd(np.asarray(m["x"], complex))[0][:, :2] for m in models(kind)[:2]]
    assert value == pytest.approx(np.sum(np.abs(u[0].conj().T @ u[1]) ** 2) / 2, rel=1e-4)
    return "counts"


def principal(kind):
    a, b = models(kind), [model(kind, seed) for seed in range(3, 6)]
    found = movement.principal_overlap(a, b, rank=1)
    both = []
    for run in (a, b):
        rows = np.stack(
            [
                np.concatenate([np.ravel(np.asarray(v)).astype(complex) for v in m.values()])
                for m in run
            ]
        )
        rows = (
            np.where(
                np.isfinite(rows), np.concatenate([rows.real, rows.imag], 1)[:, : rows.shape[1]], 0
            )
            if kind == "constant"
            else np.concatenate([rows.real, rows.imag], 1)
        )
        both.append(np.linalg.svd(np.real(rows) - np.real(rows).mean(0), full_matrices=False)[2][0])
    assert found.overlap == pytest.approx((both[0] @ both[1]) ** 2, rel=1e-3)
    k = {"floating": 28, "complex": 44, "whole": 12, "constant": 28}[kind]
    assert found.chance == pytest.approx(1 / k)
    return {"floating": "counts", "complex": "both parts"}.get(kind, "left out")


def spectrum(kind):
    found = spectra.by_layer(model(kind, 0))
    if kind == "whole":
        return "left out" if (*found.layers, *found.passed_over) == ("w",) else "?"
    if "x" in found.passed_over:
        return "named"
    return "NaN" if np.isnan(found.values["x"]).all() else "counts"


def aligned(kind):
    symmetry = alignment.symmetry(apply_mlp, mlp(kind, 0), INPUTS, check=False)
    try:
        found = alignment.weight_matching(symmetry, mlp(kind, 0), mlp(kind, 1))
    except (TypeError, ValueError) as error:
        return "refused" if " in x" in str(error) else str(error)
    own = np.asarray(mlp(kind, 0)["w"]) - np.asarray(mlp(kind, 1)["w"])
    rest = np.asarray(mlp(kind, 0)["v"]) - np.asarray(mlp(kind, 1)["v"])
    plain = np.sum(own**2) + np.sum(rest**2)
    extra = float(found.distance_before) ** 2 - plain
    assert extra == pytest.approx(apart(kind) ** 2 if kind == "floating" else 0, abs=1e-3)
    return "left out" if abs(extra) < 1e-3 else "counts"


def mlp(kind, seed):
    v = np.random.default_rng(50 + seed).standard_normal((3, 2)).astype(np.float32)
    return {**model(kind, seed), "v": jnp.asarray(v)}


def apply_mlp(params, inputs):
    return jax.nn.relu(apply_fn(params, inputs)) @ params["v"]


CHECKS = {
    "interpolation": along(on_line),
    "connectivity": along(on_curve),
    "averaging": along(in_soup),
    "planes": along(in_plane),
    "trajectories": along(in_components),
    "basins": along(in_basin),
    "criticality": along(critical),
    "pac_bayes": along(bounded),
    "directions": along(in_direction),
    "sharpness": along(sharp),
    "curvature": curved,
    "rewinding": rewound,
    "distances": counting(distance),
    "movement": counting(moved),
    "movement.subspace_overlap": subspace,
    "movement.principal_overlap": principal,
    "spectra": spectrum,
    "alignment": aligned,
}


def test_every_row_is_walked():
    assert list(TABLE) == list(CHECKS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("analysis", CHECKS)
def test_the_table_is_true(analysis, kind):
    assert CHECKS[analysis](kind) == TABLE[analysis][kind]


def test_whole_leaves_that_differ_are_refused_on_a_path():
    a, b = model("whole", 0), model("whole", 1)
    with pytest.raises(ValueError, match="different values of x"):
        paths.line(a, {**b, "x": b["x"] + 1})


def test_curvature_of_complex_leaves_is_that_of_two_real_ones():
    w = RNG.standard_normal((2, 4, 3)).astype(np.float32)
    of_complex = {"w": jax.lax.complex(*map(jnp.asarray, w))}
    of_reals = {"w": jnp.asarray(np.stack(w, -1))}

    def net(weights, inputs):
        out = inputs.astype(jnp.complex64) @ weights
        return jnp.square(out.real) + out.imag

    pair = (
        (lambda p, x: net(p["w"], x), of_complex),
        (lambda p, x: net(jax.lax.complex(p["w"][..., 0], p["w"][..., 1]), x), of_reals),
    )
    vector = RNG.standard_normal(24).astype(np.float32)
    for make in (curvature.hessian, curvature.gauss_newton):
        a, b = (make(fn, LOSS, params, STREAM) for fn, params in pair)
        assert a.size == 24
        np.testing.assert_allclose(a.product(vector), b.product(vector), rtol=1e-4, atol=1e-5)
        back = a.ravel(a.unravel(vector))
        np.testing.assert_array_equal(back, vector)


def test_training_a_curve_of_complex_leaves_finds_the_minimum():
    class Descent:
        init = staticmethod(lambda params: ())
        update = staticmethod(
            lambda grads, state, params: (jax.tree.map(lambda g: -0.1 * g, grads), state)
        )

    def net(params, inputs):
        return jnp.square(jnp.abs(params["w"] - (1 + 1j)))[None] * jnp.ones_like(inputs[:, :1])

    a, b = {"w": jnp.asarray([2j])}, {"w": jnp.asarray([-2j])}
    curve = connectivity.straight(a, b)
    trained, _ = connectivity.train(
        net, lambda out, _: out[:, 0], curve, STREAM, optimizer=Descent, num_steps=300, key=KEY
    )
    # the mean of u = 2t(1 − t) over that of u², about (1 + i): the ends cancel
    assert complex(trained.controls[1]["w"][0]) == pytest.approx(2.5 * (1 + 1j), abs=0.3)


def test_rewinding_takes_counters_along():
    a, b = model("whole", 0), {**model("whole", 1), "x": jnp.arange(16).reshape(4, 4)[::-1]}
    stacked = paths.stacked([a, b])
    np.testing.assert_array_equal(stacked(1)["x"], b["x"])
    np.testing.assert_array_equal(paths.points([a, b])(1)["x"], b["x"])
