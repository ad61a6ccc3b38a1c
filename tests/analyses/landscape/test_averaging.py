import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import models as nets
from tests.helpers import landscapes, oracles
from tests.helpers.landscapes import point
from tlx.analyses.landscape import averaging
from tlx.core import evaluate, metrics, streams, tree

KEY = jax.random.key(0)
CENTRE = (0.5, -1.0)


def _models(seed, num_models=4, spread=1.0):
    rng = np.random.default_rng(seed)
    return [point(*(CENTRE + spread * rng.standard_normal(2))) for _ in range(num_models)]


def _places(models):
    return [np.float64(model["w"]) for model in models]


@given(seed=st.integers(0, 100), num_models=st.integers(1, 4))
def test_the_uniform_soup_is_the_mean_in_any_order(seed, num_models):
    models = _models(seed, num_models)
    got = averaging.uniform_soup(models)
    np.testing.assert_allclose(got["w"], np.mean(_places(models), 0), rtol=1e-5, atol=1e-6)
    assert got["steps"] == 7
    for order in itertools.permutations(models):
        again = averaging.uniform_soup(order)
        np.testing.assert_allclose(again["w"], got["w"], rtol=1e-5, atol=1e-6)


def test_soups_of_one_and_of_two():
    a, b = nets.make_params(0), nets.make_params(1)
    landscapes.assert_equal(averaging.uniform_soup([a]), a)
    landscapes.assert_equal(averaging.uniform_soup([a, a]), a)
    landscapes.assert_equal(averaging.uniform_soup([a, b]), tree.lerp(a, b, 0.5))


def test_low_precision_is_summed_in_float32():
    models = [{"w": jnp.full(2, x, jnp.bfloat16)} for x in (256.0, 1.0, 1.0, 1.0, 1.0)]
    got = averaging.uniform_soup(models)
    assert got["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(got["w"], np.full(2, 52.0))


def _greedy(models, stream=None, **options):
    return averaging.greedy_soup(
        landscapes.difference,
        metrics.mean(landscapes.half_square),
        models,
        stream or landscapes.around(CENTRE),
        score=lambda loss: -loss,
        chunk=4,
        **options,
    )


@given(seed=st.integers(0, 200))
def test_the_greedy_soup_is_the_recipe_and_never_worse_than_the_best(seed):
    models = _models(seed)
    got = _greedy(models)
    offset = -0.5 * (landscapes.around(CENTRE).arrays["inputs"] - np.float32(CENTRE)) ** 2
    offset = offset.astype(np.float64).sum(1).mean()
    kept, best = oracles.greedy_soup(
        _places(models), lambda w: offset - 0.5 * ((w - CENTRE) ** 2).sum()
    )
    assert list(got.kept) == kept
    np.testing.assert_allclose(got.score, best, rtol=1e-5)
    assert got.score >= got.model_scores.max()
    assert got.order[0] == got.kept[0] == int(np.argmax(got.model_scores))
    assert got.trial_scores[0] == got.model_scores[got.order[0]]
    expected = [1 / len(kept) if i in kept else 0 for i in range(4)]
    np.testing.assert_allclose(got.weights, expected, rtol=1e-6)
    np.testing.assert_allclose(
        got.params["w"], np.mean([_places(models)[i] for i in kept], 0), 1e-5
    )
    assert got.statistics == "none"


def test_a_greedy_soup_of_one_or_of_equals():
    model = _models(0, 1)[0]
    alone = _greedy([model])
    landscapes.assert_equal(alone.params, model)
    assert alone.order == alone.kept == (0,)
    twice = _greedy([model, model])
    landscapes.assert_equal(twice.params, model)
    assert twice.kept == (0, 1)  # the average does not fall


def test_a_greedy_soup_on_accuracy_reads_the_data_once_for_each_model():
    models = [nets.make_params(i) for i in range(3)]
    stream, passes = landscapes.counting(streams.from_arrays(*nets.make_data(50), batch_size=16))
    metric = metrics.classification()
    got = averaging.greedy_soup(
        nets.apply_fn, metric, models, stream, score=lambda results: results["accuracy"]
    )
    assert len(passes) == 3
    again = evaluate(nets.apply_fn, metric, got.params, stream)["accuracy"]
    np.testing.assert_allclose(again, got.score, rtol=1e-6)
    for i, model in enumerate(models):
        own = evaluate(nets.apply_fn, metric, model, stream)["accuracy"]
        np.testing.assert_allclose(own, got.model_scores[i], rtol=1e-6)


def test_a_model_without_a_score_never_joins():
    broken = {**point(0, 0), "w": jnp.asarray([np.nan, 0.0])}
    got = _greedy([broken, point(0, 0)])
    assert got.kept == (1,)
    assert got.order == (1, 0)
    assert np.isnan(got.model_scores[0])


def test_wise_ft_is_the_line_on_every_target():
    a, b = point(-1, 0), point(2, 1)
    targets = {
        name: landscapes.around(centre, batch_size=size)
        for name, centre, size in (("source", (-1, 0), 16), ("target", (2, 1), 7))
    }
    metric = metrics.mean(landscapes.half_square)
    alphas = [0.0, 0.25, 1.0, 1.5]
    got = averaging.wise_ft(landscapes.difference, metric, a, b, targets, alphas=alphas)
    for name, stream in targets.items():
        inputs = stream.arrays["inputs"].astype(np.float64)
        for alpha, loss in zip(alphas, got.results[name], strict=True):
            w = (1 - alpha) * np.array([-1, 0]) + alpha * np.array([2, 1])
            np.testing.assert_allclose(loss, 0.5 * ((w - inputs) ** 2).sum(1).mean(), rtol=1e-5)
        for i, end in ((0, a), (2, b)):
            own = evaluate(landscapes.difference, metric, end, stream)
            np.testing.assert_array_equal(got.results[name][i], own)
    assert got.statistics == "none"


def _safety(apply_fn, models, stream, loss=landscapes.own, tolerance=0.1, **options):
    return averaging.safety(
        apply_fn, models, stream, tolerances={"loss": tolerance}, losses={"loss": loss}, key=KEY,
        chunk=4, **options,
    )  # fmt: skip


def test_averaging_in_a_bowl_gains_the_variance_of_the_models():
    models, stream = _models(1, 3), landscapes.around(CENTRE)
    for weights in (None, [0.5, 0.3, 0.2]):
        got = _safety(
            landscapes.difference, models, stream, landscapes.half_square, weights=weights
        )
        shares = np.full(3, 1 / 3) if weights is None else np.array(weights)
        places = np.stack(_places(models))
        variance = (shares @ places**2 - (shares @ places) ** 2).sum()
        np.testing.assert_allclose(got.above_mean["loss"].value, -variance / 2, rtol=1e-4)
        # which is a constant of the models: no example says otherwise
        np.testing.assert_allclose(got.above_mean["loss"][1:], -variance / 2, rtol=1e-3)
        assert got.verdict == got.no_worse_than_mean["loss"] == "yes"
        best = got.soup["loss"] - got.losses["loss"].min()
        np.testing.assert_allclose(got.above_best["loss"].value, best, rtol=1e-4)


def test_averaging_across_a_barrier_is_not_safe():
    wells = [point(-1, 0), point(1, 0)]
    got = _safety(landscapes.wells, wells, landscapes.scales(std=0.3))
    assert got.verdict == "no"
    np.testing.assert_allclose(got.above_mean["loss"].value, 1, rtol=1e-5)
    assert got.above_mean["loss"].low < 1 < got.above_mean["loss"].high
    assert _safety(landscapes.wells, wells, landscapes.scales(std=3.0), tolerance=1.0)[0] == "open"


def test_safe_against_the_mean_but_not_against_the_best():
    models = [point(*CENTRE), point(CENTRE[0] + 1, CENTRE[1])]
    stream = landscapes.around(CENTRE, 40)
    got = _safety(landscapes.difference, models, stream, landscapes.half_square, tolerance=0.01)
    assert got.no_worse_than_mean["loss"] == "yes"
    assert got.no_worse_than_best["loss"] in ("no", "open")
    np.testing.assert_allclose(got.above_best["loss"].value, 1 / 8, rtol=1e-4)


def test_safety_does_not_depend_on_batches_and_reads_the_data_once():
    wells = [point(-1, 0), point(1, 0)]
    expected = _safety(landscapes.wells, wells, landscapes.scales(std=0.3))
    for batch_size in (7, 40):
        stream, passes = landscapes.counting(landscapes.scales(std=0.3, batch_size=batch_size))
        got = _safety(landscapes.wells, wells, stream, num_examples=40)
        np.testing.assert_allclose(got.above_mean["loss"], expected.above_mean["loss"], rtol=1e-5)
        assert passes == [1]


def test_without_examples_there_is_no_data():
    empty = streams.from_arrays(np.zeros((0, 1), np.float32), batch_size=4)
    got = _safety(landscapes.wells, [point(-1, 0), point(1, 0)], empty)
    assert got.verdict == "open"
    assert np.isnan(got.above_mean["loss"]).all()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: averaging.uniform_soup([]), "expected at least 1 vertices, got 0"),
        (
            lambda: averaging.uniform_soup([point(0), point(0, 1)]),
            r"w: float32 1 in vertices\[0\], float32 2 in vertices\[1\]",
        ),
        (lambda: _greedy([]), "expected at least 1 vertices, got 0"),
        (
            lambda: _greedy(
                _models(0), streams.from_arrays(np.zeros((0, 2), np.float32), batch_size=4)
            ),
            "a score that is a number for at least one model, got NaN for all",
        ),
        (
            lambda: averaging.wise_ft(None, None, point(0), point(1), {}, alphas=[0]),
            "expected at least one target, got none",
        ),
        (
            lambda: averaging.wise_ft(None, None, point(0), point(1), {"x": 0}, alphas=[np.inf]),
            r"expected finite alphas, got \[inf\]",
        ),
        (
            lambda: _safety(landscapes.wells, _models(0, 2), None, weights=[1.0, 1.0]),
            r"expected 2 weights that sum to 1, got \[1\.0, 1\.0\]",
        ),
        (
            lambda: _safety(landscapes.wells, _models(0, 2), lambda: iter(())),
            "expected num_examples=",
        ),
    ],
)
def test_bad_input(function, message):
    with pytest.raises(ValueError, match=message):
        function()
