import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.core import models
from tests.helpers import tiny_models
from tlx.analyses.landscape.modules import criticality
from tlx.analyses.parameters import distances
from tlx.core import evaluate, metrics, paths, sharding, streams
from tlx.core import labels as labels_lib

N = 26
KEY = jax.random.key(3)
A, B = models.make_params(0), models.make_params(1)
LABELS = labels_lib.from_names(A, lambda name: name.split("/")[0])
ALPHAS, SIGMAS = np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.1, 0.3])


def _stream(batch_size=8):
    return streams.from_arrays(*models.make_data(N), batch_size=batch_size)


def _surface(path_fn=None, stream=None, **options):
    return criticality.surface(
        models.apply_fn,
        paths.line(A, B) if path_fn is None else path_fn,
        _stream() if stream is None else stream,
        **{
            "labels": LABELS,
            "alphas": ALPHAS,
            "sigmas": SIGMAS,
            "key": KEY,
            "num_draws": 3,
        }
        | options,
    )


def test_without_noise_it_is_the_line_of_a_module():
    inputs, y = models.make_data(N)
    found = _surface()
    assert found.modules == ("head", "hidden")
    for m, module in enumerate(found.modules):
        for i, alpha in enumerate(ALPHAS):
            moved = jax.tree.map(lambda a, b, t=alpha: (1 - t) * a + t * b, A[module], B[module])
            loss, accuracy = models.numpy_classification({**B, module: moved}, inputs, y)
            np.testing.assert_allclose(found.losses["loss"][m, i, 0], loss, rtol=1e-5)
            np.testing.assert_allclose(found.losses["error"][m, i, 0], 1 - accuracy, atol=1e-6)
        assert (found.errors["loss"][m, :, 0] == 0).all()
        assert (found.errors["loss"][m, :, 1:] > 0).all()
    assert found.num_draws == 3
    assert found.statistics == "none"


def test_the_trained_end_is_the_trained_model_to_the_bit():
    found = _surface()
    trained = evaluate(models.apply_fn, metrics.classification(), B, _stream())
    assert found.trained["loss"] == float(trained["loss"])
    assert (found.losses["loss"][:, -1, 0] == found.trained["loss"]).all()


def test_noise_is_of_the_given_scale_and_one_for_all_points():
    inputs, y = models.make_data(N)
    found = _surface(num_draws=1, losses={"loss": metrics.softmax_cross_entropy})
    (of_draw,) = jax.random.split(KEY, 1)
    noise = paths.standard_normal(of_draw, B)
    for m, module in enumerate(found.modules):
        for i, alpha in enumerate(ALPHAS):
            for j, sigma in enumerate(SIGMAS):
                point = jax.tree.map(
                    lambda a, b, u, t=alpha, s=sigma: (1 - t) * a + t * b + s * u,
                    A[module], B[module], noise[module],
                )  # fmt: skip
                loss, _ = models.numpy_classification({**B, module: point}, inputs, y)
                np.testing.assert_allclose(found.losses["loss"][m, i, j], loss, rtol=1e-5)
    assert np.isnan(found.errors["loss"][:, :, 1:]).all()


def test_the_error_is_that_of_the_mean_over_draws():
    draws = np.random.default_rng(0).standard_normal((3, 2, 4, 2))
    found = criticality._standard_error(draws, np.array([0.0, 0.1]))
    np.testing.assert_allclose(found[..., 1], draws[..., 1].std(0, ddof=1) / np.sqrt(3))
    assert (found[..., 0] == 0).all()


def test_distances_and_sizes():
    found = _surface()
    apart = distances.by_module(A, B, LABELS).l2
    np.testing.assert_allclose(found.distances, np.outer(apart, ALPHAS), rtol=1e-6)
    np.testing.assert_array_equal(found.sizes, [8 * 3 + 3, 5 * 8 + 8])


def test_along_the_optimisers_path():
    middle = models.make_params(2)
    found = _surface(paths.polygon([A, middle, B]))
    apart = distances.by_module(A, middle, LABELS).l2
    np.testing.assert_allclose(found.distances[:, 1], apart, rtol=1e-6)
    trained = evaluate(models.apply_fn, metrics.classification(), B, _stream())
    for m, module in enumerate(found.modules):
        spliced = {**B, module: middle[module]}
        loss = evaluate(models.apply_fn, metrics.classification(), spliced, _stream())["loss"]
        np.testing.assert_allclose(found.losses["loss"][m, 1, 0], loss, rtol=1e-6)
    assert (found.losses["loss"][:, 2, 0] == float(trained["loss"])).all()


@pytest.mark.parametrize("options", [{"chunk": 4}, {"stream": _stream(5)}])
def test_chunk_and_batch_size_change_nothing(options):
    found, expected = _surface(**options), _surface()
    for name in expected.losses:
        np.testing.assert_allclose(found.losses[name], expected.losses[name], rtol=1e-5, atol=1e-6)


def test_devices_change_nothing():
    mesh = sharding.make_mesh()
    a, b = (sharding.replicate(x, mesh) for x in (A, B))
    stream = _stream()
    found = _surface(
        paths.line(a, b), lambda: (sharding.shard_batch(batch, mesh) for batch in stream())
    )
    np.testing.assert_allclose(found.losses["loss"], _surface().losses["loss"], rtol=1e-5)


def _linear(params, inputs):
    return inputs @ params["w"] + params["v"][None] * inputs[:, :1]


def _squared(outputs, batch):
    return (outputs[:, 0] - batch["labels"]) ** 2


def test_linear_model_has_the_closed_form():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal(30)
    start, end = ({"w": rng.standard_normal((4, 1)), "v": rng.standard_normal(1)} for _ in "ab")
    cast = lambda p: jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), p)  # noqa: E731
    alphas, sigmas = np.linspace(0, 1, 5), np.array([0.0, 0.2, 0.5, 1.0])
    found = criticality.surface(
        _linear,
        paths.line(cast(start), cast(end)),
        streams.from_arrays(x.astype(np.float32), y.astype(np.float32), batch_size=10),
        labels={"w": "w", "v": "v"},
        alphas=alphas,
        sigmas=sigmas,
        key=KEY,
        losses={"loss": _squared},
        num_draws=60,
    )
    at = found.modules.index("w")
    expected = np.empty((5, 4))
    for i, alpha in enumerate(alphas):
        w = (1 - alpha) * start["w"] + alpha * end["w"]
        residual = (x @ w)[:, 0] + end["v"] * x[:, 0] - y
        expected[i] = (residual**2).mean() + sigmas**2 * (x**2).sum() / 30
    assert (
        np.abs(found.losses["loss"][at] - expected) <= 4 * found.errors["loss"][at] + 1e-5
    ).all()
    # the minimum over the closed form's grid is what `criticality` finds on a surface of it
    exact = found._replace(losses={"loss": np.stack([expected, expected])})
    apart = np.linalg.norm(end["w"] - start["w"])
    for threshold in np.quantile(expected, [0.1, 0.5, 0.9]):
        got = criticality.criticality(exact, threshold, loss="loss")
        allowed = [
            ((alpha * apart) / sigma) ** 2
            for i, alpha in enumerate(alphas)
            for j, sigma in enumerate(sigmas)
            if sigma > 0 and expected[i, j] <= threshold
        ]
        np.testing.assert_allclose(got.values[at], min(allowed, default=np.inf), rtol=1e-6)


def _of(losses, sigmas=(0.0, 1.0, 2.0)):
    losses = np.asarray(losses, float)
    return criticality.Surface(
        modules=tuple("abc"[: len(losses)]),
        alphas=np.array([0.0, 0.5, 1.0]),
        sigmas=np.asarray(sigmas, float),
        losses={"error": losses},
        errors={"error": np.zeros_like(losses)},
        trained={"error": 0.0},
        distances=np.tile([0.0, 3.0, 6.0], (len(losses), 1)),
        sizes=np.full(len(losses), 7),
        num_draws=1,
        statistics="none",
    )


def test_the_minimiser_by_hand():
    found = criticality.criticality(
        _of(
            [
                [[0.9, 0.9, 0.9], [0.1, 0.1, 0.9], [0.0, 0.0, 0.1]],  # 9/1 and 36/4 are equal
                [[0.0, 0.1, 0.1], [0.0, 0.1, 0.1], [0.0, 0.1, 0.1]],  # its start is as good
                [[0.0, 0.9, 0.9], [0.0, 0.9, 0.9], [0.0, 0.9, 0.9]],  # stands no noise
            ]
        ),
        0.1,
    )
    np.testing.assert_array_equal(found.values, [9, 0, np.inf])
    np.testing.assert_array_equal(found.alpha, [1, 0, np.nan])
    np.testing.assert_array_equal(found.sigma, [2, 2, np.nan])
    assert found.total == np.inf
    assert found.threshold == 0.1


def test_a_larger_threshold_is_never_more_critical():
    found = _surface(sigmas=[0.05, 0.2, 0.5])
    values = [criticality.criticality(found, t, loss="loss").values for t in np.linspace(0, 8, 17)]
    assert (np.diff(np.where(np.isinf(values), 1e9, values), axis=0) <= 0).all()
    assert np.isfinite(values[-1]).all()


def test_a_module_outside_the_graph_has_criticality_zero():
    a, b = ({**x, "spare": {"w": jnp.full(3, s)}} for x, s in ((A, 0.0), (B, 9.0)))
    labels = labels_lib.from_names(a, lambda name: name.split("/")[0])
    found = _surface(paths.line(a, b), labels=labels)
    measured = criticality.criticality(found, found.trained["error"])
    at = found.modules.index("spare")
    assert measured.values[at] == 0
    assert measured.alpha[at] == 0
    assert (found.losses["loss"][at] == found.trained["loss"]).all()


@pytest.mark.parametrize("source", ["interpolate", "stream"])
def test_batch_statistics_get_no_noise(source):
    a, b = (tiny_models.make("linen", seed) for seed in range(2))
    labels = labels_lib.from_names(a.params, lambda name: tiny_models.module_of(a, name))
    stream = streams.from_arrays(*tiny_models.make_inputs(20), batch_size=10)
    found = criticality.surface(
        a.apply_fn, paths.line(a.params, b.params), stream,
        labels=labels, alphas=ALPHAS, sigmas=[0.0, 50.0], key=KEY, num_draws=2,
        statistics=stream if source == "stream" else source,
    )  # fmt: skip
    assert np.isfinite(found.losses["loss"]).all()  # a variance with noise of 50 is often negative
    assert found.statistics == ("re-estimated" if source == "stream" else "interpolated")
    assert found.losses["loss"][:, -1, 0] == pytest.approx(found.trained["loss"], rel=1e-6)
    norm = found.modules.index("norm")
    assert found.sizes[norm] == 2 * tiny_models.WIDTH
    with pytest.raises(ValueError, match="a model with batch statistics"):
        criticality.surface(
            a.apply_fn, paths.line(a.params, b.params), stream,
            labels=labels, alphas=ALPHAS, sigmas=[0.0], key=KEY,
        )  # fmt: skip


def test_an_empty_stream_is_undefined():
    found = _surface(stream=lambda: iter([]))
    assert np.isnan(found.losses["error"]).all()
    assert np.isnan(criticality.criticality(found, 0.5).values).all()


def test_progress_is_told():
    told = []
    _surface(progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_errors():
    for options, message in [
        ({"alphas": [0.0, 1.5]}, r"expected alphas within 0 … 1, got \[0.0, 1.5\]"),
        ({"sigmas": [-0.1]}, r"expected sigmas of at least 0, got \[-0.1"),
        ({"num_draws": 0}, "expected num_draws of at least 1, got 0"),
        ({"modules": []}, "expected at least one module, got none"),
        ({"modules": ["haed"]}, "unknown label 'haed'; did you mean 'head'"),
        ({"labels": {"hidden": "a"}}, "labels with the structure of params"),
        ({"alphas": []}, "expected alphas as a vector"),
    ]:
        with pytest.raises(ValueError, match=message):
            _surface(**options)
    with pytest.raises(ValueError, match="hidden/kernel: float32 5×8 in params_a, float32 5×4"):
        _surface(paths.line(B, models.make_params(0, width=4)))
    with pytest.raises(
        ValueError, match="unknown loss of the surface 'eror'; did you mean 'error'"
    ):
        criticality.criticality(_of(np.zeros((1, 3, 3))), 0.1, loss="eror")
    with pytest.raises(ValueError, match="expected a finite threshold, got nan"):
        criticality.criticality(_of(np.zeros((1, 3, 3))), np.nan)
    with pytest.raises(ValueError, match="a sigma above 0"):
        criticality.criticality(_of(np.zeros((1, 3, 1)), sigmas=(0.0,)), 0.1)


def test_any_framework():
    for framework in ("equinox", "haiku"):
        a, b = (tiny_models.make(framework, seed) for seed in range(2))
        labels = labels_lib.from_names(a.params, lambda name, a=a: tiny_models.module_of(a, name))
        stream = streams.from_arrays(*tiny_models.make_inputs(20), batch_size=10)
        found = criticality.surface(
            a.apply_fn, paths.line(a.params, b.params), stream,
            labels=labels, alphas=[0.0, 1.0], sigmas=[0.0], key=KEY, num_draws=1,
            statistics="interpolate",
        )  # fmt: skip
        assert set(found.modules) == {"hidden", "norm", "head"}
        at = found.modules.index("head")
        mixed = jax.tree.map(
            lambda x, y, label: x if label == "head" else y, a.params, b.params, labels
        )
        loss = evaluate(a.apply_fn, metrics.classification(), mixed, stream)["loss"]
        np.testing.assert_allclose(found.losses["loss"][at, 0, 0], loss, rtol=1e-6)
        assert found.sizes[at] == tiny_models.WIDTH * 3 + 3


def _stacked(params, inputs):
    """Batch normalisation whose statistics are rows of one leaf for all layers."""
    for i in range(2):
        mean, var = params["mean"][i], params["var"][i]
        inputs = (inputs @ params["w"][i] - mean[None]) / jnp.sqrt(var + 1e-3)[None]
    return inputs


def test_statistics_that_cannot_be_told_from_weights_are_refused():
    params = {"w": jnp.ones((2, 5, 5)), "mean": jnp.zeros((2, 5)), "var": jnp.ones((2, 5))}
    with pytest.raises(ValueError, match="Write the layers out one by one"):
        criticality.surface(
            _stacked, paths.line(params, params), _stream(), labels=jax.tree.map(str, {
                "w": "w", "mean": "norm", "var": "norm"}),
            alphas=[1.0], sigmas=[0.1], key=KEY, statistics="interpolate",
        )  # fmt: skip
