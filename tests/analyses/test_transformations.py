"""docs/guides/transformations.md: what may be called inside of jit, vmap and grad."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tlx.analyses
import tlx.core
from tests.helpers import transformed
from tlx.analyses import features, landscape
from tlx.analyses.features.similarity import cka
from tlx.analyses.parameters import distances, movement
from tlx.core import evaluate, evaluate_path, paths, streams, tree

GUIDE = Path("docs/guides/transformations.md").read_text()
ROWS = re.findall(r"^\| (\w+) \| `([\w.]+)` \| (.+?) \| (.+) \|$", GUIDE, re.MULTILINE)
TABLE = [
    (kind, f"{place}.{name}", tuple(holds.split(" | ")))
    for kind, place, names, holds in ROWS
    for name in re.findall(r"`([\w.*]+)`", names)
]
HOLDS = {
    "pure": ("yes", "yes", "yes"),
    "steps": ("yes", "yes", "zero"),
    "passes": ("yes", "yes", "yes"),
    "shapes": ("yes", "yes", "none"),
    "host": ("no", "no", "no"),
    "inside": ("none", "none", "none"),
}
NAMES = {kind: [name for k, name, _ in TABLE if k == kind] for kind in HOLDS}
TRIED = [
    (kind, name) for kind, found in transformed.ENTRIES.items() for name in found if found[name]
]

A = jax.tree.map(jnp.float32, transformed.A)


def resolved(name):
    place, _, attribute = name.rpartition(".")
    place = place if place.startswith("core") else f"analyses.{place}"
    try:
        return getattr(importlib.import_module(f"tlx.{place}"), attribute)
    except ModuleNotFoundError:
        inner, _, field = place.rpartition(".")
        return getattr(getattr(importlib.import_module(f"tlx.{inner}"), field), attribute)


def public_functions():
    """All public functions of public modules, each under one of its names."""
    found = {}
    for package in (tlx.core, tlx.analyses):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "._" not in info.name:
                module = importlib.import_module(info.name)
                for name in dir(module):
                    value = getattr(module, name)
                    own = getattr(value, "__module__", "").startswith("tlx")
                    if own and callable(value) and not inspect.isclass(value):
                        found[value] = f"{info.name.removeprefix('tlx.')}.{name}"
    return found


def test_the_guide_names_every_public_function_once():
    assert all(holds == HOLDS[kind] for kind, _, holds in TABLE)
    for kind, entries in {**transformed.ENTRIES, "shapes": transformed.SHAPES}.items():
        assert set(NAMES[kind]) == set(entries), kind
    wild = [name[:-1] for _, name, _ in TABLE if name.endswith("*")]
    named = [resolved(name) for _, name, _ in TABLE if not name.endswith("*")]
    assert len(named) == len(set(named))
    missing = [
        name
        for fn, name in public_functions().items()
        if fn not in named and not name.startswith(tuple(wild))
    ]
    assert not missing, f"give {missing} a row in the guide and an entry in tests/helpers"


def is_real(x):
    return jnp.issubdtype(x.dtype, jnp.floating)


def reals(values):
    return [x for x in jax.tree.leaves(values) if hasattr(x, "dtype") and is_real(x)]


def same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9), a, b)


def on_device(x):
    return jnp.asarray(x) if isinstance(x, np.ndarray) else x


def another(x):
    """Other arrays of the same kind, for the second row under vmap."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.fold_in(x, 1)
    return x * 1.1 + 0.01 if is_real(x) else x


def weighted(xp, values):
    """One number of all that is real in a result."""
    parts = [
        (x * np.cos(1 + i + np.arange(x.size)).reshape(x.shape).astype(x.dtype)).sum()
        for i, x in enumerate(reals(values))
    ]
    return xp.sum(xp.stack(parts))


def check(call, arrays, *, kind="pure"):
    """jit and vmap against calls by themselves, grad against finite differences."""
    arrays = jax.tree.map(on_device, arrays)
    leaves, treedef = jax.tree.flatten(arrays)
    moved = [i for i, x in enumerate(leaves) if is_real(x)]

    def put(values):
        new = dict(zip(moved, values, strict=True))
        return jax.tree.unflatten(treedef, [new.get(i, x) for i, x in enumerate(leaves)])

    at = [leaves[i] for i in moved]
    rng, step = np.random.default_rng(1), 1e-6
    direction = [rng.standard_normal(x.shape) for x in at]
    ends = [[x + s * d for x, d in zip(at, direction, strict=True)] for s in (-step, step)]
    models = [arrays, jax.tree.map(another, arrays), *map(put, ends)]
    rows = jax.jit(jax.vmap(call))(*jax.tree.map(lambda *xs: jnp.stack(xs), *models))
    plain, other, low, high = (jax.tree.map(lambda x, i=i: x[i], rows) for i in range(4))
    same(call(*models[0]), plain)
    same(call(*models[1]), other)
    if not at or not reals(plain):
        return
    gradient = jax.jit(jax.grad(lambda values: weighted(jnp, call(*put(values)))))(at)
    if kind == "steps":
        assert all((np.asarray(g) == 0).all() for g in gradient)
        return
    low, high = (weighted(np, jax.device_get(x)) for x in (low, high))
    slope = (high - low) / (2 * step)
    found = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True))
    assert abs(slope) > 1e-5
    assert float(found) == pytest.approx(slope, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(("kind", "name"), TRIED, ids=[name for _, name in TRIED])
def test_what_the_guide_promises(kind, name):
    with jax.enable_x64(True):
        check(*transformed.ENTRIES[kind][name], kind=kind)


def test_names_and_shapes_are_the_same_inside():
    inside = {}

    def call(params):
        inside.update({name: fn(params) for name, fn in transformed.SHAPES.items()})
        return params

    jax.jit(jax.vmap(call))(jax.tree.map(lambda x: jnp.stack([x, x]), A))
    for name, fn in transformed.SHAPES.items():
        assert inside[name] == fn(A), name


ARRAY = np.ones((2, 2), np.float32)


@pytest.mark.parametrize("name", NAMES["host"])
def test_the_host_says_so_at_its_door(name):
    fn = resolved(name)
    required = [p for p in inspect.signature(fn).parameters.values() if p.default is p.empty]

    def call(x):
        return fn(**{p.name: x for p in required})

    first = required[0].name
    message = (
        rf"^expected arrays with values for tlx\.[\w.]+\.{fn.__name__}, .*one in {first}; call"
    )
    for transformation in (jax.jit, jax.vmap, jax.grad):
        with pytest.raises(TypeError, match=message):
            transformation(call)(ARRAY)


def traced_stream(x):
    return lambda: iter([{"inputs": x, "labels": np.zeros(len(x), int)}])


HIDDEN = {
    "a stream": (
        lambda x: evaluate(transformed.apply_fn, transformed.METRIC, A, traced_stream(x)),
        "a pass over a stream, .* in batch/inputs;",
    ),
    "a path": (
        lambda x: evaluate_path(
            transformed.apply_fn, transformed.METRIC, lambda t: tree.add(A, A, t * x[0, 0]),
            np.zeros(2), transformed.STREAM,
        ),
        "tlx.core.evaluate_path, .* in point/body/kernel;",
    ),
    "an index": (
        lambda x: paths.points([A, A])(x[0, 0].astype(int)),
        "a path of tlx.core.paths.points, .* in coordinate;",
    ),
    "checkpoints": (
        lambda x: movement.trajectory(iter([x, x]), "all"),
        "movement.trajectory, .* in checkpoints/0;",
    ),
    "a confounder": (cka.make_deconfounded_cka, "make_deconfounded_cka, .* in confounder;"),
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_what_an_argument_holds_is_refused_too(name):
    call, message = HIDDEN[name]
    for transformation in (jax.jit, jax.grad)[: 1 + (name != "an index")]:
        with pytest.raises(TypeError, match=message):
            transformation(call)(np.ones((4, 3), np.float32))


def test_arrays_with_values_are_computed_with_inside_of_a_program():
    b = jax.tree.map(lambda x: x + 1, A)

    def heights():
        line = landscape.line(
            transformed.apply_fn, transformed.METRIC, A, b, transformed.STREAM, alphas=[0, 0.5, 1]
        )
        matched = landscape.weight_matching(transformed.SYMMETRY, A, b)
        return line.results["loss"], matched.distance_after

    found = jax.jit(lambda x: (x, *heights()))(1.0)[1:]
    for x, y in zip(found, heights(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_labels_are_checked_in_a_pass_that_is_traced():
    stream = streams.from_arrays(ARRAY, np.array([0, 7]), batch_size=2)
    with pytest.raises(ValueError, match=r"expected labels in 0 … 1"):
        jax.jit(lambda p: evaluate(lambda p, x: x * p, transformed.METRIC, p, stream))(1.0)


MEASURES = (
    features.mean_cca, features.svcca, features.pwcca, features.regression_r2, features.procrustes,
    features.shape_distance, features.distance_correlation, features.cka,
)  # fmt: skip


@pytest.mark.parametrize("measure", MEASURES, ids=lambda fn: fn.__name__)
def test_gradients_with_dead_units_and_equal_examples(measure):
    """Several singular values of 0, and distances of 0: neither makes a derivative NaN."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, y = jnp.asarray(rng.standard_normal((12, 5))), jnp.asarray(rng.standard_normal((12, 4)))

        def dead(x):
            return measure(x.at[:, 1].set(0).at[:, 3].set(0), y)

        def equal(x):
            return measure(x.at[5].set(x[2]), y)

        for call in (dead, equal):
            check(call, (x,))


def test_distances_that_are_traced_are_those_on_the_host():
    rng = np.random.default_rng(0)
    a = {"k": rng.standard_normal((3, 4)), "b": np.zeros(2), "n": np.full(2, np.nan)}
    b = {"k": rng.standard_normal((3, 4)), "b": np.zeros(2), "n": np.full(2, np.nan)}
    of = {"k": "k", "b": "b", "n": "n"}
    for scale in (1e-30, 1.0, 1e25):
        pair = [jax.tree.map(lambda x, s=scale: jnp.asarray(x * s, jnp.float32), p) for p in (a, b)]
        compiled = jax.jit(lambda a, b: distances.by_module(a, b, of)[1:])
        for x, y in zip(compiled(*pair), distances.by_module(*pair, of)[1:], strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5)
    infinite = {**pair[1], "b": jnp.asarray([jnp.inf, 0])}
    found = distances.by_module(pair[0], infinite, of)[1:]
    for x, y in zip(compiled(pair[0], infinite), found, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5)


def test_what_did_not_move_has_the_derivative_zero():
    of = {"body": {"kernel": "body"}, "head": {"kernel": "head"}}
    moved = {**A, "head": jax.tree.map(lambda x: x + 1, A["head"])}
    for field in ("l2", "relative", "cosine", "sum_of_tensor_norms", "total_l2"):
        found = jax.grad(lambda p, f=field: getattr(distances.by_module(p, A, of), f).sum())(moved)
        np.testing.assert_allclose(found["body"]["kernel"], 0, atol=1e-6)
        assert np.isfinite(found["head"]["kernel"]).all()
        assert np.abs(found["head"]["kernel"]).max() > 1e-3


def test_the_example_of_the_guide_runs(capsys):
    for code in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(compile(code, "transformations.md", "exec"), {})
    assert capsys.readouterr().out.split("\n")[0] == "(4, 2)"
