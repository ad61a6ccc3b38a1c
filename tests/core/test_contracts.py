"""What a stranger would bring: each input that once gave a wrong number, and its kin."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.analyses.landscape import basins, curvature, interpolation
from tlx.analyses.landscape.modules import criticality, rewinding
from tlx.core import auc, contracts, evaluate, evaluate_path, metrics, paths, streams

RNG = np.random.default_rng(0)
X = RNG.standard_normal((32, 5)).astype("f4")
W = {"w": RNG.standard_normal((5, 1)).astype("f4")}
Y = (X @ W["w"])[:, 0]
HEAD = {"w": RNG.standard_normal((5, 3)).astype("f4")}
CLASSES = RNG.integers(0, 3, 32)
IGNORED = CLASSES.copy()
IGNORED[5] = -100
KEY = jax.random.key(0)


def apply_fn(params, inputs):
    return inputs @ params["w"]


def squares(outputs, batch):
    with jax.numpy_rank_promotion("allow"):  # as it is outside of these tests
        return (outputs - batch["labels"]) ** 2


def wrapped(outputs, batch):
    return metrics.softmax_cross_entropy(outputs, batch)


def mean_already(outputs, batch):
    return metrics.softmax_cross_entropy(outputs, batch).mean()


def is_right(outputs, batch):
    return outputs.argmax(-1) == batch["labels"]


def stream_of(labels, inputs=X, batch_size=8):
    return streams.from_arrays(inputs, labels, batch_size=batch_size)


def zeros(params):
    return jax.tree.map(np.zeros_like, params)


def of_line(loss, params, stream):
    moved = jax.tree.map(lambda x: x + 0.1, params)
    return interpolation.line(apply_fn, loss, params, moved, stream, alphas=jnp.linspace(0, 1, 3))


def of_modules(loss, params, stream):
    return rewinding.rewind(apply_fn, loss, params, [zeros(params)], stream, labels={"w": "w"})


def of_noise(losses, params, stream):
    return criticality.surface(
        apply_fn, paths.line(zeros(params), params), stream, labels={"w": "w"},
        alphas=[0.0, 1.0], sigmas=[0.0], key=KEY, losses=losses,
    )  # fmt: skip


def of_basin(losses, params, stream):
    models = [params, jax.tree.map(lambda x: x * 1.1, params)]
    tolerances = dict.fromkeys(losses, 0.1)
    return basins.same_basin(
        apply_fn, models, stream, tolerances=tolerances, deltas=[0.1], key=KEY, losses=losses,
        num_draws=2, num_points=1, num_resamples=20,
    )  # fmt: skip


BROKEN = {
    "broadcast": (squares, W, stream_of(Y), r"of 8 rows, got shape \[8, 8\] against \[8\]"),
    "columns": (metrics.accuracy, HEAD, stream_of(CLASSES[:, None]), "drop the last axis of the l"),
    "one-hot": (
        metrics.softmax_cross_entropy, HEAD, stream_of(np.eye(3, dtype=int)[CLASSES]),
        r"expected logits \[B, C\] and labels \[B\], got logits \[8, 3\] and labels \[8, 3\]",
    ),
    "tokens": (
        metrics.error, HEAD, stream_of(np.zeros((8, 8), int), RNG.random((8, 8, 5), np.float32)),
        "use metrics.tokens",
    ),
    "binary": (
        metrics.sigmoid_cross_entropy, W, stream_of((Y > 0).astype(int)),
        r"labels \[B, C\], C labels of 0 and 1 an example, got logits \[8, 1\] and labels \[8\]",
    ),
    "binary accuracy": (
        metrics.sigmoid_accuracy, W, stream_of((Y > 0).astype(int)), r"one label an example takes",
    ),
    "not binary": (
        metrics.sigmoid_error, W, stream_of(np.where(Y > 0, 1, -1)[:, None]),
        "expected labels of 0 and 1, got .* others .*, such as -1 in row",
    ),
    "scalar": (mean_already, HEAD, stream_of(CLASSES, batch_size=7), "would count a padded batch"),
    "bool": (is_right, HEAD, stream_of(CLASSES), r"floating values \[8\], got bool"),
    "ignored": (
        metrics.softmax_cross_entropy, HEAD, stream_of(IGNORED),
        r"labels in 0 … 2, as there are 3 logits, got 1 of 8 outside, such as -100 in row 5",
    ),
    "one too many": (
        metrics.error, HEAD, stream_of(np.where(IGNORED < 0, 3, IGNORED)), "such as 3 in row 5"
    ),
    "ignored, in a function": (wrapped, HEAD, stream_of(IGNORED), "such as -100 in row 5"),
    "one class": (metrics.error, W, stream_of(np.zeros(32, int)), "at least two classes, got log"),
    "float labels": (metrics.error, HEAD, stream_of(CLASSES * 1.0), "labels as integers, the num"),
    "no labels": (metrics.error, HEAD, stream_of(None), "expected batches with 'labels', got the"),
    "regression": (metrics.squared_error, W, stream_of(Y), r"\[B, ...\], got \[8, 1\] and"),
}  # fmt: skip

ANALYSES = {
    "evaluate": lambda loss, p, s: evaluate(apply_fn, metrics.mean(loss), p, s),
    "collect": lambda loss, p, s: evaluate(apply_fn, metrics.collect(loss, 32), p, s),
    "line": lambda loss, p, s: of_line(metrics.mean(loss), p, s),
    "rewinding": lambda loss, p, s: of_modules(metrics.combine({"a": metrics.mean(loss)}), p, s),
    "criticality": lambda loss, p, s: of_noise({"error": loss}, p, s),
    "basins": lambda loss, p, s: of_basin({"error": loss}, p, s),
    "curvature": lambda loss, p, s: curvature.hessian(apply_fn, loss, p, s),
}


@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize("case", BROKEN)
def test_no_analysis_folds_what_is_none(case, analysis):
    loss, params, stream, message = BROKEN[case]
    with pytest.raises((ValueError, TypeError), match=message):
        ANALYSES[analysis](loss, params, stream)


def test_a_mean_of_rows_is_that_of_the_formula():
    stream = stream_of(CLASSES, batch_size=7)
    logits = X.astype(np.float64) @ HEAD["w"]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    found = evaluate(apply_fn, metrics.mean(metrics.softmax_cross_entropy), HEAD, stream)
    np.testing.assert_allclose(found, -log_p[np.arange(32), CLASSES].mean(), rtol=1e-6)
    found = evaluate(apply_fn, metrics.mean(metrics.accuracy), HEAD, stream)
    assert found == (logits.argmax(1) == CLASSES).mean()


def test_masked_rows_may_hold_any_label():
    batch = {"inputs": X, "labels": IGNORED, "mask": IGNORED >= 0}
    found = evaluate(apply_fn, metrics.classification(), HEAD, lambda: iter([batch]))
    assert found["count"] == 31
    assert np.isfinite(found["loss"])


def test_labels_that_were_computed_are_not_judged_as_they_stood():
    """A function that shifts labels is right, and what it was given is not in 0 … C−1."""

    def shifted(outputs, batch):
        return metrics.error(outputs, {**batch, "labels": batch["labels"] - 1})

    found = evaluate(apply_fn, metrics.mean(shifted), HEAD, stream_of(CLASSES + 1))
    assert found == evaluate(apply_fn, metrics.mean(metrics.error), HEAD, stream_of(CLASSES))


def test_ranking_does_not_broadcast_logits():
    stream = stream_of((Y > 0).astype(int)[:, None])
    with pytest.raises(ValueError, match=r"expected logits \[B, 3\] by num_labels=3, got \[8, 1\]"):
        evaluate(apply_fn, auc.ranking(32, 3), W, stream)


@pytest.mark.parametrize(
    ("index", "num_examples", "message"),
    [
        (np.arange(32), 8, "by num_examples=8, got 31 in row 31"),
        (np.arange(32) % 16, 32, "16 repeated numbers in 'index', such as 0"),
        (np.arange(32) - 1, 32, "'index' of at least 0 where mask is True, got -1"),
        (np.arange(32) * 1.0, 32, r"'index' as integers \[B\]"),
    ],
)
def test_examples_are_numbered_once(index, num_examples, message):
    def stream():
        yield {"inputs": X, "labels": CLASSES, "index": index}

    with pytest.raises(ValueError, match=message):
        evaluate(apply_fn, metrics.collect(metrics.error, num_examples), HEAD, stream)


class Torch:
    """Looks like a tensor of another library."""

    shape, ndim, dtype = (32,), 1, np.dtype(int)

    def __len__(self):
        return 32


def batches(**leaves):
    return lambda: iter([{"inputs": X, "labels": CLASSES, **leaves}])


@pytest.mark.parametrize(
    ("stream", "kind", "message"),
    [
        (stream_of(CLASSES)(), TypeError, "expected a stream, got generator: a stream is a functi"),
        ([{"inputs": X}], TypeError, "expected a stream, got list"),
        (lambda: 3, TypeError, "expected a stream to return an iterator, got int"),
        (lambda: iter([(X, CLASSES)]), TypeError, "got tuple of 2; write it as {'inputs': …"),
        (lambda: iter([{"image": X, "label": CLASSES}]), ValueError, r"keys \['image', 'label'\]"),
        (batches(labels=list(CLASSES)), TypeError, "numpy or jax in a batch, got .* in labels/0"),
        (batches(labels=Torch()), TypeError, "in a batch, got Torch in labels; convert"),
        (batches(name=np.array(["a"] * 32)), TypeError, "expected numbers in a batch, got dtype <"),
        (batches(labels=CLASSES[:8]), ValueError, r"inputs of 32 rows and labels \[8\]"),
        (batches(labels=np.int32(1)), TypeError, "got int32 in labels"),
        (batches(weight=np.array(1.0)), ValueError, "got a scalar in weight"),
        (batches(mask=np.ones(32, int)), ValueError, r"mask as bool \[B\], .* got int(32|64) \[32"),
        (batches(mask=np.ones((32, 1), bool)), ValueError, r"mask as bool \[B\]"),
        (lambda: iter([{"inputs": {}}]), ValueError, "at least one array, got none"),
        (lambda: iter([{"inputs": X[:0]}]), ValueError, "at least one row"),
    ],
)
@pytest.mark.parametrize("analysis", ["evaluate", "line", "rewinding", "curvature"])
def test_streams_that_are_none(stream, kind, message, analysis):
    with pytest.raises(kind, match=message):
        ANALYSES[analysis](metrics.error, HEAD, stream)


@pytest.mark.parametrize("wrap", [lambda g: g, lambda g: map(dict, g), lambda g: iter(list(g))])
def test_an_iterator_is_read_once(wrap):
    given = wrap(stream_of(CLASSES)())

    def stream():
        return given

    found = evaluate(apply_fn, metrics.classification(), HEAD, stream)
    assert found["count"] == 32
    with pytest.raises(ValueError, match=r"read (once|before)"):
        evaluate(apply_fn, metrics.classification(), HEAD, stream)


def test_a_shorter_pass_is_another_stream():
    sizes = iter([4, 4, 3])

    def stream():
        return iter(list(stream_of(CLASSES)())[: next(sizes)])

    for _ in range(2):
        evaluate(apply_fn, metrics.classification(), HEAD, stream)
    with pytest.raises(ValueError, match="got 32 in one and 24 in another"):
        evaluate(apply_fn, metrics.classification(), HEAD, stream)


def test_a_pass_that_was_left_is_no_pass():
    stream = stream_of(CLASSES)
    next(streams.checked(stream)())
    first, resumed = streams.peek(stream)
    assert first is not None
    for _ in range(2):
        assert sum(batch["mask"].sum() for batch in resumed()) == 32


def test_batches_of_any_size_are_batches():
    def stream():
        for start in (0, 20):
            yield {"inputs": X[start : start + 20], "labels": jnp.asarray(CLASSES[start:][:20])}

    found = evaluate(apply_fn, metrics.classification(), HEAD, stream)
    expected = evaluate(apply_fn, metrics.classification(), HEAD, stream_of(CLASSES))
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-6)


def test_checks_are_traced_once():
    count = []

    def counted(outputs, batch):
        count.append(1)
        return metrics.error(outputs, batch)

    metric = metrics.mean(counted)
    for _ in range(3):
        evaluate(apply_fn, metric, HEAD, stream_of(CLASSES))
    assert len(count) == 2  # once for the checks, once for what is compiled


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_inputs_of_any_floats(dtype):
    found = evaluate(
        lambda p, x: x.astype(jnp.float32) @ p["w"], metrics.classification(), HEAD,
        stream_of(CLASSES, X.astype(dtype)),
    )  # fmt: skip
    assert np.isfinite(found["loss"])


def test_lists_are_arrays():
    stream = streams.from_arrays(X.tolist(), CLASSES.tolist(), batch_size=5)
    batch = next(stream())
    assert batch["inputs"].shape == (5, 5)
    with pytest.raises(ValueError, match=r"expected labels as an array \[N, ...\], got ndarray"):
        streams.from_arrays(X, np.array(3), batch_size=5)
    with pytest.raises(ValueError, match=r"expected 3 rows in each array as in inputs"):
        streams.pad_batch({"inputs": X[:3], "labels": CLASSES[:2]}, 4)


def test_per_example_accepts_what_is_one_value_a_row():
    batch = {"inputs": X}
    for values in (np.ones(32, np.float32), jnp.ones(32, jnp.bfloat16)):
        found = contracts.per_example(lambda _, __, v=values: v, None, batch)
        assert found.shape == (32,)
    with pytest.raises(TypeError, match=r"one array .* got dict"):
        contracts.per_example(lambda _, __: {}, None, batch)
    with pytest.raises(ValueError, match="got complex64"):
        contracts.per_example(lambda _, __: jnp.ones(32, jnp.complex64), None, batch)


# tokens, ratios, regression

POSITIONS = RNG.standard_normal((10, 4, 5)).astype("f4")
TOKENS = RNG.integers(0, 3, (10, 4))
TOKENS[2, 1:] = TOKENS[5] = -100


def of_tokens():
    """Mean loss and 0-1 error over the positions that count, in float64."""
    logits = (POSITIONS.astype(np.float64) @ HEAD["w"]).reshape(-1, 3)
    labels = TOKENS.ravel()
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    kept = np.flatnonzero(labels >= 0)
    losses = -log_p[kept, labels[kept]]
    return losses.mean(), (logits[kept].argmax(1) != labels[kept]).mean()


@pytest.mark.parametrize("batch_size", [1, 3, 10, 16])
def test_tokens_count_positions(batch_size):
    stream = stream_of(TOKENS, POSITIONS, batch_size)
    loss, error = of_tokens()
    found = evaluate(apply_fn, metrics.tokens(ignore=-100), HEAD, stream)
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-6)
    np.testing.assert_allclose(found["accuracy"], 1 - error, rtol=1e-6)
    assert found["count"] == 10
    assert int(found["positions"]) == (TOKENS >= 0).sum() == 33
    with pytest.raises(
        ValueError, match=r"mark positions that do not count by metrics.tokens\(ignore=-100\)"
    ):
        evaluate(apply_fn, metrics.tokens(), HEAD, stream)


def test_tokens_where_none_counts():
    stream = stream_of(np.full((4, 2), -1), np.ones((4, 2, 5), np.float32))
    found = evaluate(apply_fn, metrics.tokens(-1), HEAD, stream)
    assert np.isnan(found["loss"])
    assert np.isnan(found["accuracy"])
    with pytest.raises(ValueError, match=r"weights with a positive sum, got 0\.0 of 4 examples"):
        metrics.token_losses(stream, -1)


def test_tokens_in_every_analysis():
    stream = stream_of(TOKENS, POSITIONS, 4)
    loss, error = of_tokens()
    losses = metrics.token_losses(stream, -100)
    assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
    assert_close(of_line(metrics.tokens(-100), HEAD, stream).results["loss"][0], loss)
    back = of_modules(metrics.tokens(-100), HEAD, stream)
    assert_close(back.drops["accuracy"].ravel(), (1 - error) - (TOKENS == 0).sum() / 33)
    assert_close(of_noise(losses, HEAD, stream).trained["loss"], loss)
    assert_close(of_noise(losses, HEAD, stream).trained["error"], error)
    assert_close(of_basin(losses, HEAD, stream).losses["loss"][0], loss)
    rows, labels = POSITIONS.reshape(-1, 5)[TOKENS.ravel() >= 0], TOKENS[TOKENS >= 0]
    flat = curvature.hessian(apply_fn, metrics.softmax_cross_entropy, HEAD, stream_of(labels, rows))
    found = curvature.hessian(apply_fn, losses["loss"], HEAD, stream)
    assert_close(found.product(jnp.arange(15.0)), flat.product(jnp.arange(15.0)), atol=1e-5)


def weight(_, batch):
    return batch["weight"]


def weighted_error(outputs, batch):
    return batch["weight"] * metrics.error(outputs, batch)


def weighted(weights, batch_size=8):
    def stream():
        for batch in stream_of(CLASSES, batch_size=batch_size)():
            rows = np.minimum(batch["index"], 31)
            yield {**batch, "weight": weights[rows].astype(np.float32)}

    return stream


@pytest.mark.parametrize("batch_size", [5, 8, 40])
def test_a_ratio_is_a_weighted_mean(batch_size):
    weights = RNG.random(32)
    weights[3] = 0
    wrong = (X @ HEAD["w"]).argmax(1) != CLASSES
    stream = weighted(weights, batch_size)
    found = evaluate(apply_fn, metrics.ratio(weighted_error, weight), HEAD, stream)
    np.testing.assert_allclose(found, np.average(wrong, weights=weights), rtol=1e-6)
    as_mean = metrics.mean(metrics.as_mean(weighted_error, weight, stream))
    np.testing.assert_allclose(evaluate(apply_fn, as_mean, HEAD, stream), found, rtol=1e-6)


def test_weights_that_are_none():
    ratio = metrics.ratio(weighted_error, weight)
    assert np.isnan(evaluate(apply_fn, ratio, HEAD, weighted(np.zeros(32))))
    assert np.isnan(evaluate(apply_fn, ratio, HEAD, weighted(np.arange(32) - 1.0)))
    with pytest.raises(ValueError, match=r"weights of at least 0, got -1\.0"):
        metrics.as_mean(weighted_error, weight, weighted(np.arange(32) - 1.0))


@pytest.mark.parametrize("shape", [(), (1,), (3, 2)])
def test_regression_meets_numpy(shape):
    outputs, labels = RNG.standard_normal((2, 32, *shape))
    stream = stream_of(labels, outputs.astype(np.float32), 5)
    found = evaluate(lambda _, x: x, metrics.regression(), {}, stream)
    np.testing.assert_allclose(found["loss"], ((outputs - labels) ** 2).mean(), rtol=1e-5)
    np.testing.assert_allclose(found["mae"], abs(outputs - labels).mean(), rtol=1e-5)
    assert found["count"] == 32


@pytest.mark.parametrize("given", [metrics.classification, metrics.softmax_cross_entropy, "loss"])
def test_what_is_no_metric_is_said_to_be_none(given):
    stream = streams.from_arrays(np.eye(4, dtype=np.float32), np.arange(4), batch_size=4)
    for call in (
        lambda: evaluate(lambda p, x: x @ p, given, np.eye(4, dtype=np.float32), stream),
        lambda: evaluate_path(lambda p, x: x * p, given, lambda t: t, np.ones(1), stream),
    ):
        with pytest.raises(TypeError, match=r"expected a metric, such as metrics.classification"):
            call()
