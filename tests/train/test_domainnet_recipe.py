"""Three steps of the paper's DomainNet recipe, and a plain PyTorch loop of it, mixup included."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import mock_data, torch_recipe
from tests.helpers.torch_names import fill
from tlx import config, models
from tlx.core import tree
from tlx.data.transform import transform
from tlx.models import torch_names
from tlx.studies.spec import StudySpec
from tlx.train import optim
from tlx.train.optim_spec import OptimSpec
from tlx.train.schedules import rate_at
from tlx.train.state import make_state
from tlx.train.step import StepConfig, StepInputs, step

pytest.importorskip("PIL")


def draws():
    """Mixup's weights and partners as a run of seed 0 has them."""
    weights, partners = [], []
    for number in range(torch_recipe.STEPS):
        key = jax.random.fold_in(first_key(), number)
        weight_key, partner_key = jax.random.split(key)
        weights.append(float(jax.random.beta(weight_key, 0.7, 0.7, dtype=jnp.float32)))
        partners.append(np.asarray(jax.random.permutation(partner_key, torch_recipe.BATCH)))
    return np.array(weights), np.stack(partners)


def first_key():
    return make_state({"params": {"head": {"kernel": jnp.zeros(1)}}}, PLAIN, 0).key


PLAIN = optim.static_of(OptimSpec(rate=0.1))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """RI-T of the config, with images of the mock's size and shuffled blocks."""
    folder = tmp_path_factory.mktemp("data")
    mock_data.make_image_folder(folder / "folder", per_class=1)
    mock_data.make_domainnet(folder / "domainnet", domains=("clipart",), per_class=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLX_DATA_DIR", str(folder))
        given = config.load("configs/paper/domainnet.py:clipart")
        run = config.build(StudySpec, given).scratch
    data = dataclasses.replace(
        run.data, image_size=torch_recipe.SIZE, fit=(), augment=(), shuffle="block:8"
    )
    return dataclasses.replace(run, data=data)


@pytest.fixture(scope="module")
def ours(recipe):
    """Losses and final weights of tlx's own step, in float64 but for normalisation and loss."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        module = models.make(
            "fixup_resnet",
            num_classes=torch_recipe.CLASSES,
            width=torch_recipe.WIDTH,
            stage_sizes=torch_recipe.STAGES,
            block="bottleneck",
            dtype="float64",
        )
        tensors = {name: fill(name, shape, 0) for name, shape in torch_recipe.shapes().items()}
        variables, skipped = torch_names.from_torch(module, tensors)
        assert not skipped
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables)
        static = optim.static_of(recipe.optim)
        settings = StepConfig(module=module, loss=recipe.loss, mixup=recipe.mixup, optim=static)
        state = make_state(wide, static, 0)
        update = jax.jit(lambda state, batch, numbers: step(settings, state, batch, numbers))
        losses = []
        for number, (pixels, labels) in enumerate(zip(*torch_recipe.images(), strict=True)):
            inputs = transform(recipe.data, None, pixels).astype(jnp.float64)
            batch = {"inputs": inputs, "labels": jnp.asarray(labels, jnp.int32)}
            rate = np.float32(rate_at(recipe.optim, number, recipe.num_steps))
            numbers = StepInputs(rate, optim.hyper_of(recipe.optim))
            state, found = update(state, batch, numbers)
            losses.append(float(found["loss"]))
        after = torch_names.to_torch(module, jax.device_get(state.variables))
        return np.array(losses), after, variables


def assert_same(ours, theirs):
    losses, after, start = ours
    np.testing.assert_allclose(losses, theirs["losses"], rtol=2e-6)
    for name, value in after.items():
        expected = theirs[f"after/{name}"]
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    assert len(after) == len(tree.named_leaves(start))


def test_the_recipe_is_that_of_the_loop(recipe):
    assert recipe.optim.rate == torch_recipe.RATE
    assert recipe.optim.momentum == torch_recipe.MOMENTUM
    assert recipe.optim.weight_decay == torch_recipe.DECAY
    assert (recipe.mixup, recipe.data.shuffle_seed) == (0.7, torch_recipe.SEED)
    assert (recipe.data.mean, recipe.data.std) == (torch_recipe.MEAN, torch_recipe.STD)


def test_three_steps(ours):
    golden = np.load(torch_recipe.GOLDEN)
    weights, partners = draws()
    np.testing.assert_allclose(weights, golden["weights"], rtol=1e-6)
    np.testing.assert_array_equal(partners, golden["partners"])
    assert_same(ours, golden)


def test_three_steps_against_torch_itself(ours):
    pytest.importorskip("torch")
    assert_same(ours, torch_recipe.loop(*draws()))
