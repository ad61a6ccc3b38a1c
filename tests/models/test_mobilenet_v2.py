"""MobileNetV2 against torchvision's, and its parts against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import torch_names as reference
from tlx import models
from tlx.models import mobilenet_v2, torch_names

SHORT = ((1, 8, 1, 1), (6, 16, 2, 2))
NET = models.make("mobilenet_v2", num_classes=5, stages=SHORT)


@pytest.fixture(scope="module")
def golden():
    return np.load("tests/golden/mobilenet_v2_torchvision.npz")


@pytest.fixture(scope="module")
def variables(golden):
    """Weights that are a function of torchvision's names, as the golden logits were made."""
    shapes = torch_names.shapes(NET)
    filled = {}
    for leaf, like in shapes.items():
        name = torch_names.torch_name(NET, leaf)
        shape = torch_names.to_layout(np.empty(like.shape, bool), torch=True).shape
        value = reference.fill(name, shape, 0)
        filled[name] = np.abs(value) + 0.5 if name.endswith("running_var") else value
    found, skipped = torch_names.from_torch(NET, filled)
    assert not skipped
    return found


def test_logits_of_torchvision(golden, variables):
    inputs = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    logits = jax.jit(NET.apply)(variables, jnp.asarray(inputs.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(logits, golden["logits"], rtol=1e-5, atol=1e-6)


def test_names_of_torchvision_and_back(golden, variables):
    tensors = torch_names.to_torch(NET, variables)
    assert set(tensors) == set(golden["names"])
    found, skipped = torch_names.from_torch(NET, tensors)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert set(skipped.values()) == {"a counter"}


def test_full_size():
    module = models.make("mobilenet_v2", num_classes=1000)
    inputs = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 3_504_872
    features = jax.eval_shape(lambda v, x: module.apply(v, x, method="features"), variables, inputs)
    assert tuple(features) == module.layer_names
    assert features["stem"].shape == (2, 112, 112, 32)
    assert features["stage7_block1"].shape == (2, 7, 7, 320)
    assert features["pooled"].shape == (2, 1280)
    assert set(variables["params"]) == set(module.module_names)


def test_widths_are_multiples_of_eight_and_the_last_features_stay():
    assert [mobilenet_v2.channels(n, 0.35) for n in (16, 24, 32, 96, 320)] == [8, 8, 16, 32, 112]
    module = models.make("mobilenet_v2", num_classes=3, stages=SHORT, width=0.35)
    leaves = torch_names.shapes(module)
    assert leaves["params/head/kernel"].shape == (1280, 3)
    assert leaves["params/stem/conv/kernel"].shape == (3, 3, 3, 16)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"stages": [(1, 8, 1, 1)]}, TypeError, "stages as a tuple of tuples"),
        ({"stages": ((1, 8, 1),)}, ValueError, "each of stages as"),
        ({"width": 0}, ValueError, "width as a number above 0, got 0"),
        ({"width": "1"}, ValueError, "width as a number above 0, got '1'"),
        ({"stages": ((1, 16, 1.0, 1),)}, ValueError, "each of stages as"),
        ({"head_init": "ones"}, ValueError, "unknown head_init 'ones'"),
        ({"num_classes": 0}, ValueError, "num_classes as an integer of at least 1, got 0"),
    ],
)
def test_fields_out_of_range(values, error, message):
    with pytest.raises(error, match=message):
        models.make("mobilenet_v2", **{"num_classes": 3, **values})
