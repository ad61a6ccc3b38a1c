import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import tiny_models
from tlx.adapters import linen
from tlx.analyses.features.transfer import _ridge, probes
from tlx.core import streams

CLASSES = 4


def features(params, inputs):
    """The inputs as they are, one wide random layer, and images of it."""
    wide = jnp.tanh(inputs @ params)
    return {"inputs": inputs, "wide": wide, "images": wide.reshape(len(wide), 5, 2, -1)}


def identity(params, inputs):
    return {"inputs": inputs}


def blobs(seed=0, num=150, dim=6, spread=0.6):
    """Overlapping classes; test examples from another draw of the same."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((CLASSES, dim))
    labels = rng.integers(0, CLASSES, num).astype(np.int32)
    return (centres[labels] + spread * rng.standard_normal((num, dim))).astype(np.float32), labels


def weights(dim=6, width=40):
    return np.random.default_rng(3).standard_normal((dim, width)).astype(np.float32)


def oracle(train, labels, test, ridges, num_classes=CLASSES):
    """Outputs on the test rows and the ridge chosen, from the definitions, float64.

    Every prediction error of every candidate comes from the hat matrix itself.
    """
    x, y = np.asarray(train, np.float64), labels
    if labels.ndim == 1:
        y = np.eye(num_classes)[labels]
    n, d = x.shape
    z = x - x.mean(0)
    unit = np.trace(z.T @ z) / min(d, n - 1)
    found = []
    for ridge in ridges:
        w = np.linalg.solve(z.T @ z + ridge * unit * np.eye(d), z.T @ (y - y.mean(0)))
        hat = 1 / n + z @ np.linalg.solve(z.T @ z + ridge * unit * np.eye(d), z.T)
        left = y - hat @ y
        found.append((n * (left**2).sum() / np.trace(np.eye(n) - hat) ** 2, w))
    best = int(np.argmin([error for error, _ in found]))
    out = (np.asarray(test, np.float64) - x.mean(0)) @ found[best][1] + y.mean(0)
    return out, ridges[best]


def stream(inputs, labels, batch_size=32):
    return streams.from_arrays(inputs, labels, batch_size=batch_size)


def probe(train, test, fn=identity, params=None, batch_size=32, **options):
    options = {"num_classes": CLASSES} | options
    both = (stream(*data, batch_size) for data in (train, test))
    return probes.linear_probes(fn, params, *both, **options)


RIDGES = (1e-4, 1e-2, 1.0)


@pytest.mark.parametrize("num", [25, 40, 41, 150], ids=lambda n: f"n={n}")
@pytest.mark.parametrize("spatial", ["flatten", "pool"])
def test_probes_are_the_regression_in_float64(num, spatial):
    """Both forms: 40 columns of "wide" are more, as many and fewer than the examples."""
    train, test, params = blobs(1, num), blobs(2, 80), weights()
    got = probe(train, test, features, params, spatial=spatial, ridges=RIDGES)
    assert got.layers == ("inputs", "wide", "images")
    assert (got.num_classes, got.spatial) == (CLASSES, spatial)
    assert (int(got.num_train), int(got.num_test)) == (num, 80)
    rows = [jax.tree.map(np.asarray, features(params, x)) for x, _ in (train, test)]
    for i, name in enumerate(got.layers):
        x, t = (r[name].astype(np.float64) for r in rows)
        if spatial == "pool" and name == "images":
            x, t = x.mean((1, 2)), t.mean((1, 2))
        x, t = x.reshape(len(x), -1), t.reshape(len(t), -1)
        out, ridge = oracle(x, train[1], t, RIDGES)
        right = (out.argmax(1) == test[1]).mean()
        np.testing.assert_allclose(got.accuracy[i], right, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(got.ridge[i], ridge, rtol=1e-6, err_msg=name)
        assert got.num_features[i] == x.shape[1]
        assert 0.3 < right < 1  # so that a wrong probe shows


@pytest.mark.parametrize("num", [20, 60])
def test_the_outputs_are_the_regression(num):
    x, labels = blobs(1, num, dim=30)
    y = np.eye(CLASSES)[labels]
    held: Any = _ridge.Examples()
    for part in np.array_split(np.arange(num), 5):
        held = _ridge.add(held, x[part], y[part])
    fit = _ridge.solve(held, RIDGES)
    assert fit is not None
    assert (held.moments is None) == (num <= 30)
    test, _ = blobs(2, 10, dim=30)
    expected, ridge = oracle(x, labels, test, RIDGES)
    np.testing.assert_allclose(fit(test), expected, rtol=1e-9, atol=1e-9)
    assert fit.strength == ridge


def test_a_small_ridge_is_least_squares():
    (x, labels), (test, _) = blobs(1), blobs(2)
    held = _ridge.add(_ridge.Examples(), x, np.eye(CLASSES)[labels])
    assert held is not None
    fit = _ridge.solve(held, (1e-13,))
    assert fit is not None
    ones = np.ones((len(x), 1))
    best = np.linalg.lstsq(np.hstack([x, ones]).astype(np.float64), np.eye(CLASSES)[labels])[0]
    np.testing.assert_allclose(fit(test), test @ best[:-1] + best[-1], rtol=1e-9, atol=1e-9)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_moments_are_a_monoid(a, b, c, seed):
    rng = np.random.default_rng(seed)
    x = 100 + rng.standard_normal((a + b + c, 3)).astype(np.float32)
    y = rng.standard_normal((a + b + c, 2))
    whole = _ridge.of_rows(x, y)
    p, q, r = (_ridge.of_rows(x[i], y[i]) for i in np.split(np.arange(len(x)), [a, a + b]))
    for got in (
        _ridge.merge(_ridge.merge(p, q), r),
        _ridge.merge(p, _ridge.merge(q, r)),
        _ridge.merge(r, _ridge.merge(q, p)),
    ):
        for value, expected in zip(got, whole, strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("num", [30, 150])
def test_batches_padding_masked_rows_and_order_change_nothing(num):
    train, test, params = blobs(1, num), blobs(2, 60), weights()
    base = probe(train, test, features, params, batch_size=64)
    order = np.random.default_rng(0).permutation(num)
    shuffled = tuple(part[order] for part in train)
    rows = np.sort(np.random.default_rng(1).permutation(2 * num)[:num])
    inputs = np.full((2 * num, 6), np.nan, np.float32)
    labels = np.full(2 * num, 99, np.int32)
    inputs[rows], labels[rows] = train
    mask = np.isin(np.arange(2 * num), rows)

    def masked():
        for i in range(0, 2 * num, 10):
            part = slice(i, i + 10)
            yield {"inputs": inputs[part], "labels": labels[part], "mask": mask[part]}

    others = [
        probe(train, test, features, params, batch_size=7),
        probe(shuffled, test, features, params, batch_size=64),
        probes.linear_probes(
            features, params, masked, stream(*test), num_classes=CLASSES, spatial="pool"
        ),
    ]
    for other in others:
        for a, b in zip(other, base, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("offset", "scale"), [(100.0, 1.0), (0.0, 1e-12), (0.0, 1e12)])
def test_neither_offset_nor_scale_costs_digits(offset, scale):
    """100 spreads away; values of 7 bits, so that float32 holds both alike."""
    train, test = (
        (np.round(16 * x).astype(np.float32) / 16, y) for x, y in (blobs(1, 600), blobs(2, 600))
    )
    base = probe(train, test)
    moved = (((x + np.float32(offset)) * np.float32(scale), y) for x, y in (train, test))
    got = probe(*moved)
    assert 0.7 < base.accuracy[0] < 0.99
    np.testing.assert_allclose(got.accuracy, base.accuracy, atol=2 / 600)
    np.testing.assert_allclose(got.ridge, base.ridge)


@given(st.integers(0, 99))
def test_affine_maps_change_nothing_without_a_ridge(seed):
    rng = np.random.default_rng(seed)
    (x, labels), (test, truth) = blobs(1), blobs(2)
    a = np.linalg.qr(rng.standard_normal((6, 6)))[0] @ np.diag(10.0 ** rng.uniform(-2, 2, 6))
    y, outputs = np.eye(CLASSES)[labels], []
    for rows, others in ((x, test), (x @ a + 5, test @ a + 5)):
        held = _ridge.add(_ridge.Examples(), rows, y)
        assert held is not None
        fit = _ridge.solve(held, (1e-14,))
        assert fit is not None
        outputs.append(fit(others))
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
    assert (outputs[0].argmax(1) == truth).mean() > 0.7


@pytest.mark.parametrize("num", [5, 150])
def test_rotation_translation_and_scale_change_nothing_at_any_ridge(num):
    (x, labels), (test, _) = blobs(1, num), blobs(2)
    turn = 3 * np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    outputs = []
    for rows, others in ((x, test), (x @ turn + 5, test @ turn + 5)):
        held = _ridge.add(_ridge.Examples(), rows, np.eye(CLASSES)[labels])
        assert held is not None
        fit = _ridge.solve(held, (0.1,))
        assert fit is not None
        outputs.append(fit(others))
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-5, atol=1e-6)


def test_separable_classes_are_read_whole():
    train, test = blobs(1, spread=0.02), blobs(2, spread=0.02)
    got = probe(train, test)
    np.testing.assert_array_equal(got.accuracy, 1)
    np.testing.assert_array_equal(got.high, 1)
    assert 0.95 < got.low[0] < 1


@pytest.mark.parametrize("dim", [6, 300])
def test_random_labels_are_read_by_chance(dim):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1200, dim)).astype(np.float32)
    labels = rng.integers(0, CLASSES, 1200).astype(np.int32)
    got = probe((x[:200], labels[:200]), (x[200:], labels[200:]), batch_size=200)
    assert got.low[0] < 1 / CLASSES < got.high[0]
    np.testing.assert_allclose(got.accuracy, 1 / CLASSES, atol=0.05)


def test_the_interval_is_wilsons():
    got = probe(blobs(1), blobs(2, 80), confidence=0.9)
    p, z = float(got.accuracy[0]), 1.6448536269514722
    for end, sign in ((got.low, -1), (got.high, 1)):
        # by definition the ends e solve |p - e| = z √(e(1 - e)/n)
        e = float(end[0])
        np.testing.assert_allclose(p - e, -sign * z * np.sqrt(e * (1 - e) / 80), rtol=1e-4)


def test_constant_features_give_the_most_frequent_class():
    labels = np.array([2, 1, 2, 0, 2, 1], np.int32)
    flat = np.full((6, 3), 0.1, np.float32)
    got = probe((flat, labels), (flat, labels), batch_size=2)
    np.testing.assert_allclose(got.accuracy, 0.5)
    assert np.isnan(got.ridge).all()


def test_a_class_that_is_missing_in_train_is_never_right():
    (x, labels), test = blobs(1), blobs(2)
    some = labels != 3
    got = probe((x[some], labels[some]), test, ridges=RIDGES)
    out, _ = oracle(x[some], labels[some], test[0], RIDGES)
    assert (out.argmax(1) != 3).all()
    np.testing.assert_allclose(got.accuracy, [(out.argmax(1) == test[1]).mean()], rtol=1e-6)
    only = labels == 1
    got = probe((x[only], labels[only]), test)
    np.testing.assert_allclose(got.accuracy, [(test[1] == 1).mean()], rtol=1e-6)
    assert np.isnan(got.ridge).all()


@pytest.mark.parametrize("num", [20, 150])
def test_several_labels_an_example(num):
    def several(data):
        inputs, labels = data
        both = np.stack([labels % 2, labels // 2, labels == 0], 1)
        return inputs, both.astype(np.float32)

    train, test = several(blobs(1, num, dim=30)), several(blobs(2, 80, dim=30))
    got = probe(train, test, num_classes=3, ridges=RIDGES)
    out, ridge = oracle(train[0], train[1].astype(np.float64), test[0], RIDGES)
    np.testing.assert_allclose(got.accuracy, [((out >= 0.5) == (test[1] > 0)).mean()], rtol=1e-6)
    np.testing.assert_allclose(got.ridge, [ridge], rtol=1e-6)


def test_undefined_is_nan():
    train, test = blobs(1), blobs(2)
    nothing = (train[0][:0], train[1][:0])
    got = probe(train, nothing)
    assert int(got.num_test) == 0
    assert np.isnan([got.accuracy, got.low, got.high]).all()
    assert np.isfinite(got.ridge).all()

    def all_masked():
        yield {"inputs": train[0], "labels": train[1], "mask": np.zeros(len(train[0]), bool)}

    got = probes.linear_probes(identity, None, all_masked, stream(*test), num_classes=CLASSES)
    assert int(got.num_train) == 0
    assert np.isnan([got.accuracy, got.ridge]).all()
    for wrong in (-1, CLASSES):
        bad = train[1].copy()
        bad[0] = wrong
        assert np.isnan(probe((train[0], bad), test).accuracy).all()
        assert np.isnan(probe(test, (train[0], bad)).accuracy).all()
    one = probe((train[0][:1], train[1][:1]), test)
    np.testing.assert_allclose(one.accuracy, [(test[1] == train[1][0]).mean()], rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["train", "test"])
def test_a_layer_that_is_not_finite_leaves_the_others_alone(value, where):
    def two(params, inputs):
        broken = jnp.where(inputs[:, :1] == 77, jnp.asarray(value, inputs.dtype), inputs[:, :1])
        return {"broken": broken, "fine": inputs[:, 1:]}

    data = {"train": blobs(1), "test": blobs(2)}
    data[where][0][3, 0] = 77
    got = probe(data["train"], data["test"], two)
    assert np.isnan(got.accuracy[0])
    assert got.accuracy[1] > 0.5


def test_layers_of_a_net_by_name_and_depth():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(CLASSES, name="head")(jax.nn.relu(nn.Dense(16, name="hidden")(x)))

    (x, labels), test = blobs(1), blobs(2)
    model = Net()
    params = model.init(jax.random.key(0), x)
    fn = linen.features(model, ["hidden", "head"])
    both = probe((x, labels), test, fn, params)
    assert both.layers == ("hidden", "head")
    assert both.accuracy[0] >= both.accuracy[1] > 0.4
    one = probe((x, labels), test, fn, params, layers=["head"])
    assert one.layers == ("head",)
    np.testing.assert_array_equal(one.accuracy, both.accuracy[1:])
    half = probe((x, labels), test, lambda p, i: {"x": i.astype(jnp.bfloat16)})
    np.testing.assert_allclose(half.accuracy, probe((x, labels), test).accuracy, atol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["inptus"]}, "unknown layer 'inptus'; did you mean 'inputs'? Known: inputs"),
        (
            {"spatial": "positions"},
            "unknown spatial 'positions'. Known: flatten, pool",
        ),
        ({"ridges": ()}, "expected at least one ridge, all finite and above 0, got ()"),
        (
            {"ridges": (0.1, 0.0)},
            "expected at least one ridge, all finite and above 0, got (0.1, 0.0)",
        ),
        ({"confidence": 1.0}, "expected a confidence between 0 and 1, got 1.0"),
        ({"num_classes": 0}, "expected num_classes of at least 1, got 0"),
    ],
    ids=str,
)
def test_errors_of_options(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        probe(blobs(1), blobs(2), **options)


def test_errors_of_data():
    (x, labels), test = blobs(1), blobs(2)
    cases = [
        ((x[:0], labels[:0]), test, "expected a training stream with at least one batch, got none"),
        (
            (x, None),
            test,
            "expected batches of train with 'labels', got the keys ['index', 'inputs', 'mask']",
        ),
        (
            (x, labels),
            (test[0], np.zeros((len(test[0]), 3), np.float32)),
            "expected labels of test as [B], or as [B, 4] by num_classes, got shape (32, 3)",
        ),
        (
            (x, np.zeros((len(x), 4), np.float32)),
            test,
            "expected labels of one kind in train and test, got [B, C] in train and [B] in test",
        ),
        (
            (x, labels),
            (test[0][:, :5], test[1]),
            "expected as many features in test as in train:\n  inputs: 6 in train, 5 in test",
        ),
    ]
    for train, other, message in cases:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            probe(train, other)
    with pytest.raises(TypeError) as error:
        probe((x, labels.astype(np.float32)), test)
    assert str(error.value) == (
        "expected labels [B] of train as integers, got dtype float32; "
        "several labels an example have the shape [B, C]"
    )


def test_probes_of_a_model_from_an_adapter():
    tiny = tiny_models.make("linen", 0)
    inputs, labels = tiny_models.make_inputs(90)
    got = probe(
        (inputs[:60], labels[:60]),
        (inputs[60:], labels[60:]),
        tiny.features(tiny.layers),
        tiny.params,
        num_classes=tiny_models.CLASSES,
        ridges=RIDGES,
    )
    layers = tiny_models.reference(tiny, inputs)
    expected = [
        (oracle(z[:60], labels[:60], z[60:], RIDGES, 3)[0].argmax(1) == labels[60:]).mean()
        for z in layers.values()
    ]
    np.testing.assert_allclose(got.accuracy, expected, rtol=1e-6)


def test_the_forward_pass_is_compiled_once():
    traces = []

    def counted(params, inputs):
        traces.append(inputs.shape)
        return {"inputs": inputs}

    probe(blobs(1), blobs(2), counted)
    before = len(traces)
    probe(blobs(3), blobs(4), counted, ridges=RIDGES)
    assert len(traces) == before


def test_directions_that_are_nothing_but_rounding_take_no_freedom():
    """Six copies of the features leave the choice where it was: the weaker ridge is better."""
    x, labels = blobs(1, 45)
    y = np.eye(CLASSES)[labels]
    for rows in (x, np.tile(x, 6)):
        held = _ridge.add(_ridge.Examples(), rows, y)
        assert held is not None
        fit = _ridge.solve(held, (1e-17, 2.0))
        assert fit is not None
        assert fit.strength == 1e-17


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_of_each_batch_are_checked(split: str) -> None:
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    known = np.tile(np.array([[0, 1], [1, 0]], np.float32), (3, 1))
    unknown = known.copy()
    unknown[5, 1] = -1
    good, bad = (streams.from_arrays(x, y, batch_size=2) for y in (known, unknown))
    both = (bad, good) if split == "train" else (good, bad)
    with pytest.raises(ValueError, match=r"got 1 others of 4, such as -1.0 in row 1 of"):
        probes.linear_probes(lambda p, x: {"a": x}, {}, *both, num_classes=2)

    def changing() -> Any:
        yield {"inputs": x, "labels": np.array([0, 1] * 3)}
        yield {"inputs": x, "labels": np.array([0.5, 1.5] * 3)}

    with pytest.raises(TypeError, match="as integers, got dtype float64"):
        probes.linear_probes(lambda p, x: {"a": x}, {}, changing, changing, num_classes=2)
