"""Accumulated gradients, smoothed labels, averaged weights, blocks computed again."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train import tiny
from tests.train.tiny import make_spec
from tlx import checkpoints, models
from tlx.core import sharding, tree
from tlx.train import losses, optim
from tlx.train.loop import train
from tlx.train.spec import OptimSpec, RunSpec
from tlx.train.state import make_state
from tlx.train.step import StepConfig, StepInputs, step

STATIC = optim.static_of(OptimSpec(rate=0.1))
NUMBERS = StepInputs(np.float32(0.1), optim.hyper_of(OptimSpec(rate=0.1)))


def a_batch(rows: int = 12) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "inputs": rng.standard_normal((rows, 8, 8, 1)).astype(np.float32),
        "labels": rng.integers(0, tiny.CLASSES, rows).astype(np.int32),
        "mask": np.arange(rows) % 5 != 0,
    }


def after_step(batch: Any, **options: Any) -> Any:
    net = tiny.Tiny(num_classes=tiny.CLASSES)
    state = make_state(net.init(jax.random.key(0), batch["inputs"]), STATIC, 0)
    config = StepConfig(net, "softmax", 0.0, STATIC, **options)
    after, found = jax.jit(functools.partial(step, config))(state, batch, NUMBERS)
    return {**tree.named_leaves(after.params), **found}


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_a_batch_in_parts_is_the_whole(parts: int) -> None:
    whole, in_parts = after_step(a_batch()), after_step(a_batch(), accumulate=parts)
    for name, leaf in whole.items():
        np.testing.assert_allclose(in_parts[name], leaf, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_batch_without_rows_that_count_moves_nothing() -> None:
    batch = a_batch() | {
        "mask": np.zeros(12, bool),
        "inputs": np.full((12, 8, 8, 1), np.nan, np.float32),
    }
    found = after_step(batch, accumulate=3)
    assert (float(found["loss"]), int(found["count"])) == (0, 0)
    assert all(np.isfinite(leaf).all() for leaf in found.values())


def test_smoothed_labels_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    targets = 0.7 * np.eye(4)[labels] + 0.3 / 4
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    hard = losses.one_hot(jnp.asarray(labels), 4)
    found = losses.softmax_cross_entropy(jnp.float32(logits), losses.smoothed(hard, 0.3))
    np.testing.assert_allclose(found, -(targets * log_p).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(losses.smoothed(hard, 0.0), hard)


def test_accuracy_in_training_is_that_on_the_labels() -> None:
    plain, smooth = after_step(a_batch()), after_step(a_batch(), label_smoothing=0.2)
    assert smooth["accuracy"] == plain["accuracy"]
    assert smooth["loss"] != plain["loss"]


def run(spec: RunSpec, folder: Path) -> Any:
    return train(spec, folder, mesh=sharding.make_mesh(jax.devices()[:1]))


def test_what_is_saved_is_the_average_of_the_weights(tmp_path: Path) -> None:
    each = {"rule": "none", "every": 1}
    options = {"model": {"options": {"normalise": True}}, "checkpoint": each}
    run(make_spec(**options), tmp_path / "plain")
    found = run(make_spec(**options, ema=0.75), tmp_path / "average")
    steps = checkpoints.steps(tmp_path / "plain")
    assert steps == tuple(range(13))
    average: dict[str, np.ndarray] = {}
    for number in steps:
        plain = tree.named_leaves(checkpoints.restore(tmp_path / "plain", number, as_numpy=True))
        wide = {name: np.asarray(leaf, np.float64) for name, leaf in plain.items()}
        average = {n: 0.75 * average.get(n, x) + 0.25 * x for n, x in wide.items()}
        saved = checkpoints.restore(tmp_path / "average", number, as_numpy=True)
        for name, leaf in tree.named_leaves(saved).items():
            np.testing.assert_allclose(leaf, average[name], rtol=1e-5, atol=1e-6, err_msg=name)
    plain_end = run(make_spec(**options), tmp_path / "plain")
    assert found.test["loss"] != plain_end.test["loss"]  # it is what is evaluated, too


def test_problems_of_the_options() -> None:
    spec = make_spec(accumulate=5, label_smoothing=0.1, loss="multilabel")
    assert spec.problems() == [
        "label_smoothing: expected 0 for loss 'multilabel', which has no classes",
        "accumulate: expected a divisor of data.batch_size (16), got 5",
    ]
    (said,) = make_spec(ema=1.0).problems()
    assert said == "ema: expected a number of at least 0 and below 1, got 1.0"


def test_devices_divide_each_part(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"multiple of the 4 devices times accumulate \(8\), got 16"
    ):
        train(make_spec(accumulate=8), tmp_path)


NETS = {
    "resnet": {"width": 4, "stage_sizes": (3,), "stem": "small"},
    "fixup_resnet": {"width": 4, "stage_sizes": (3,), "stem": "small"},
    "vit": {"width": 8, "heads": 2, "depth": 3, "patch": 8, "grid": 2},
    "convnext": {"width": 4, "stage_sizes": (2,)},
    "mobilenet_v2": {"stages": ((2, 8, 4, 1),)},
}


@pytest.mark.parametrize("name", NETS)
def test_blocks_computed_again_give_the_same_gradients_from_less(name: str) -> None:
    """What a gradient keeps is measured where it is kept: XLA on CPU undoes it when it compiles."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        nets = [
            models.make(name, num_classes=3, dtype="float64", remat=remat, **NETS[name])
            for remat in (False, True)
        ]
        x = jax.random.normal(jax.random.key(1), (2, 16, 16, 3), jnp.float64)
        init = nets[0].init(jax.random.key(0), x)
        of_both = [
            jax.tree.structure(jax.eval_shape(net.init, jax.random.key(0), x)) for net in nets
        ]
        assert of_both[0] == of_both[1]
        keys = jax.random.split(jax.random.key(2), 1000)
        leaves, treedef = jax.tree.flatten(init)
        moved = [
            jnp.asarray(leaf, jnp.float64) + 0.1 * jax.random.normal(key, leaf.shape, jnp.float64)
            for leaf, key in zip(leaves, keys, strict=False)
        ]
        params = jax.tree.unflatten(treedef, moved)
        rest = {part: jax.tree.map(jnp.abs, v) for part, v in params.items() if part != "params"}

        def loss(net: Any, params: Any) -> Any:
            variables = {"params": params, **rest}
            if rest:
                logits, _ = net.apply(variables, x, train=True, mutable=list(rest))
            else:
                logits = net.apply(variables, x, train=True)
            return jnp.sum(jnp.square(logits))

        found = [jax.jit(jax.grad(functools.partial(loss, net)))(params["params"]) for net in nets]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8), *found)
        kept = [
            jax.eval_shape(
                lambda p, net=net: jax.vjp(functools.partial(loss, net), p)[1], params["params"]
            )
            for net in nets
        ]
        sizes = [sum(leaf.size for leaf in jax.tree.leaves(each)) for each in kept]
        assert sizes[1] < 0.8 * sizes[0]


def test_remat_is_a_bool() -> None:
    module = models.make("resnet", num_classes=3, remat="false", **NETS["resnet"])
    with pytest.raises(ValueError, match="remat: expected True or False, got 'false'"):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
