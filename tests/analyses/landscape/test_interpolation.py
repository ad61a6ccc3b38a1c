import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.core import models
from tlx.analyses.landscape import interpolation
from tlx.core import evaluate, metrics, streams, tree

ALPHAS = (-0.5, 0.0, 0.25, 0.5, 1.0, 1.3)


def _line(batch_size=16, params_b=None, alphas=ALPHAS, num_examples=50):
    a, b = models.make_params(0), models.make_params(1) if params_b is None else params_b
    stream = streams.from_arrays(*models.make_data(num_examples), batch_size=batch_size)
    metric = metrics.classification()
    return interpolation.line(models.apply_fn, metric, a, b, stream, alphas=alphas)


def test_line_is_the_formula_in_float64():
    got = _line()
    inputs, labels = models.make_data(50)
    a, b = models.make_params(0), models.make_params(1)
    assert got.alphas.dtype == jnp.float32
    np.testing.assert_array_equal(got.alphas, np.float32(ALPHAS))
    for i, alpha in enumerate(np.float64(np.float32(ALPHAS))):
        point = jax.tree.map(
            lambda x, y, t=alpha: (1 - t) * np.float64(x) + t * np.float64(y), a, b
        )
        loss, accuracy = models.numpy_classification(point, inputs, labels)
        np.testing.assert_allclose(got.results["loss"][i], loss, rtol=1e-5)
        np.testing.assert_allclose(got.results["accuracy"][i], accuracy, rtol=1e-6)
        assert got.results["count"][i] == 50


def test_line_ends_are_the_models_to_the_bit():
    got = _line(alphas=[0, 1])
    stream = streams.from_arrays(*models.make_data(50), batch_size=16)
    for i in range(2):
        metric = metrics.classification()
        end = evaluate(models.apply_fn, metric, models.make_params(i), stream)
        for name, value in end.items():
            np.testing.assert_array_equal(got.results[name][i], value)


def test_line_backwards_is_the_line_from_the_other_end():
    a, b = models.make_params(0), models.make_params(1)
    stream = streams.from_arrays(*models.make_data(50), batch_size=16)
    alphas = np.linspace(0, 1, 5)
    one, other = (
        interpolation.line(
            models.apply_fn, metrics.classification(), *ends, stream, alphas=alphas
        ).results["loss"]
        for ends in ((a, b), (b, a))
    )
    np.testing.assert_allclose(one, other[::-1], rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 64])
def test_line_does_not_depend_on_batches(batch_size):
    expected, got = _line(16), _line(batch_size)
    for name, value in expected.results.items():
        np.testing.assert_allclose(got.results[name], value, rtol=1e-5)


def test_line_without_examples_has_no_data():
    got = _line(num_examples=0)
    assert np.isnan(got.results["loss"]).all()
    np.testing.assert_array_equal(got.results["count"], 0)


def test_line_between_different_nets_names_the_leaves():
    with pytest.raises(ValueError, match="3 of 4 that differ") as error:
        _line(params_b=models.make_params(1, width=9))
    for leaf in ("hidden/kernel", "hidden/bias", "head/kernel"):
        assert leaf in str(error.value)


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        (0.5, r"expected alphas as a vector \[K\] of numbers, got shape \(\)"),
        ([], r"expected alphas as a vector \[K\] of numbers, got shape \(0,\)"),
        ([0.0, np.nan], r"expected finite alphas, got \[0.0, nan\]"),
    ],
)
def test_line_refuses_other_alphas(alphas, message):
    with pytest.raises(ValueError, match=message):
        _line(alphas=alphas)


def test_line_takes_scalars_of_a_tree_unchanged_that_do_not_move():
    a = {"w": jnp.ones(2), "steps": jnp.int32(3)}
    b = {"w": jnp.zeros(2), "steps": jnp.int32(3)}
    stream = streams.from_arrays(np.zeros((4, 1), np.float32), batch_size=2)
    metric = metrics.mean(lambda outputs, batch: outputs)

    def apply_fn(params, inputs):
        return jnp.full(len(inputs), tree.norm(params["w"])) * params["steps"].astype(jnp.float32)

    got = interpolation.line(apply_fn, metric, a, b, stream, alphas=[0, 1])
    np.testing.assert_allclose(got.results, [3 * np.sqrt(2), 0], rtol=1e-6)


def test_a_slice_along_a_direction_is_a_line():
    params, u = models.make_params(0), models.make_params(1)
    stream = streams.from_arrays(*models.make_data(50), batch_size=16)
    metric = metrics.classification()
    ends = params, tree.add(params, u)
    got = interpolation.line(models.apply_fn, metric, *ends, stream, alphas=ALPHAS)
    points = (jax.tree.map(lambda p, d, t=t: p + np.float32(t) * d, params, u) for t in ALPHAS)
    losses = [evaluate(models.apply_fn, metric, point, stream)["loss"] for point in points]
    np.testing.assert_allclose(got.results["loss"], losses, rtol=1e-5)
    assert got.results["loss"][1] == losses[1]


def test_line_reads_the_data_once_for_several_metrics():
    reads = []
    inner = streams.from_arrays(*models.make_data(50), batch_size=16)

    def counting():
        for batch in inner():
            reads.append(1)
            yield batch

    each = metrics.collect(metrics.accuracy, 50)
    metric = metrics.combine({"mean": metrics.classification(), "each": each})
    ends = models.make_params(0), models.make_params(1)
    got = interpolation.line(models.apply_fn, metric, *ends, counting, alphas=ALPHAS)
    assert len(reads) == inner.num_batches
    assert got.results["each"].shape == (len(ALPHAS), 50)
    np.testing.assert_allclose(got.results["each"].mean(1), got.results["mean"]["accuracy"])
    assert got.statistics == "none"


def _is_head(name):
    return name.startswith("head")


def _reversed_apply(params, inputs):
    return models.apply_fn(params, inputs[:, ::-1])


def _targets(batch_size=16):
    """Two targets, of 3 and 7 classes, with nets, data and metrics of their own."""
    a, b = models.make_params(0), models.make_params(1, classes=7)
    data = models.make_data(50), models.make_data(33, seed=1, classes=7)
    three, seven = (streams.from_arrays(*d, batch_size=batch_size) for d in data)
    accuracy = metrics.mean(metrics.accuracy)
    return a, b, {
        "three": interpolation.Target(models.apply_fn, metrics.classification(), a, three),
        "seven": interpolation.Target(_reversed_apply, accuracy, b, seven),
    }  # fmt: skip


def _on_targets(batch_size=16, **changes):
    a, b, targets = _targets(batch_size)
    options = {"targets": targets, "is_head": _is_head, "alphas": ALPHAS} | changes
    return interpolation.line_on_targets(a, b, **options)


def test_targets_keep_their_heads_while_the_trunk_moves():
    a, b, targets = _targets()
    got = _on_targets()
    for i, t in enumerate(np.float32(ALPHAS)):
        trunk = tree.lerp(a["hidden"], b["hidden"], t)
        for name, target in targets.items():
            params = {"hidden": trunk, "head": target.params["head"]}
            alone = evaluate(target.apply_fn, target.metric, params, target.stream)
            found = jax.tree.map(lambda r, i=i: r[i], got.results[name])
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), found, alone)
            if t in (0, 1):
                jax.tree.map(np.testing.assert_array_equal, found, alone)
    assert got.statistics == {"three": "none", "seven": "none"}


def test_targets_do_not_depend_on_batches():
    one, other = _on_targets(16).results, _on_targets(7).results
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), one, other)


def test_a_target_without_a_head_of_its_own_is_the_plain_line():
    a, b = models.make_params(0), models.make_params(1)
    target = _targets()[2]["three"]
    got = interpolation.line_on_targets(
        a, b, {"it": target}, is_head=lambda name: False, alphas=ALPHAS
    )
    jax.tree.map(np.testing.assert_array_equal, got.results["it"], _line().results)


def test_heads_may_have_other_leaves():
    a, b, targets = _targets()
    mlp = {"hidden": b["hidden"], "head": {"kernel": b["head"]["kernel"], "0": a["head"]}}
    target = interpolation.Target(
        lambda p, x: models.apply_fn(p | {"head": p["head"]["0"]}, x),
        metrics.classification(),
        mlp,
        targets["three"].stream,
    )
    got = interpolation.line_on_targets(
        a, mlp, targets | {"third": target}, is_head=_is_head, alphas=[0]
    )
    jax.tree.map(np.testing.assert_array_equal, got.results["third"], got.results["three"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": {}}, "expected at least one target to evaluate, got none"),
        (
            {"is_head": lambda name: True},
            r"got True for all leaves \(head/bias, head/kernel, hidden/bias, hidden/kernel\)",
        ),
        (
            {"is_head": lambda name: name == "head/bias"},
            "head/kernel: float32 8×3 in the trunk of params_a, "
            "float32 8×7 in the trunk of params_b",
        ),
        (
            {"targets": {"x": _targets()[2]["three"]._replace(params=models.make_params(0, 9))}},
            "hidden/kernel: float32 5×8 in the trunk of params_a, "
            "float32 5×9 in the trunk of target 'x'",
        ),
        ({"alphas": [np.inf]}, r"expected finite alphas, got \[inf\]"),
    ],
)
def test_targets_refuse(changes, message):
    with pytest.raises(ValueError, match=message):
        _on_targets(**changes)
