"""PyTorch's names of our models: both ways, and every tensor accounted for."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import torch_names as reference
from tlx import models
from tlx.core import tree
from tlx.models import torch_names

SMALL = {"width": 4, "stage_sizes": (2, 1), "stem": "imagenet"}
NETS = {
    "resnet": models.make("resnet", num_classes=3, **SMALL),
    "resnet_bottleneck": models.make("resnet", num_classes=3, block="bottleneck", **SMALL),
    "fixup_resnet": models.make("fixup_resnet", num_classes=3, **SMALL),
    "fixup_bottleneck": models.make("fixup_resnet", num_classes=3, block="bottleneck", **SMALL),
}


def random_variables(module, channels=3):
    rng = np.random.default_rng(0)
    leaves = torch_names.shapes(module, channels)
    values = {name: rng.random(like.shape).astype(np.float32) for name, like in leaves.items()}
    return tree.nested(values)


@pytest.mark.parametrize("name", NETS)
def test_there_and_back(name):
    variables = random_variables(NETS[name])
    tensors = torch_names.to_torch(NETS[name], variables)
    found, skipped = torch_names.from_torch(NETS[name], tensors)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    norms = [n for n in tensors if n.endswith("running_var")]
    assert len(skipped) == len(norms) == ("fixup" not in name) * len(norms)
    assert set(skipped.values()) <= {"a counter"}


def test_data_parallel_and_grey_images():
    module = NETS["resnet"]
    variables = random_variables(module, channels=1)
    tensors = torch_names.to_torch(module, variables)
    assert tensors["conv1.weight"].shape == (4, 1, 7, 7)
    found, _ = torch_names.from_torch(module, {f"module.{n}": v for n, v in tensors.items()})
    jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_names_of_a_resnet():
    # as torchvision's resnet50 prints them
    module = models.make("resnet50", num_classes=1000)
    names = set(torch_names.to_torch(module, random_variables(module)))
    assert len(names) == 320
    for name in (
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.num_batches_tracked",
        "layer3.5.conv3.weight",
        "layer4.2.bn3.bias",
        "fc.bias",
    ):
        assert name in names


def test_names_of_the_authors_fixup_resnet():
    module = reference.reference_model()
    leaves = torch_names.shapes(module)
    for leaf in leaves:
        name = torch_names.torch_name(module, leaf)
        assert f"params/{reference.ours(name)}" == leaf


def test_a_head_that_is_left_out():
    module = NETS["resnet"]
    tensors = torch_names.to_torch(module, random_variables(module))
    other = models.make("resnet", num_classes=7, **SMALL)
    found, skipped = torch_names.from_torch(other, tensors, head="drop")
    assert "head" not in found["params"]
    assert {n for n, reason in skipped.items() if reason == "the head"} == {"fc.weight", "fc.bias"}


def test_what_does_not_fit_is_all_told():
    module = NETS["fixup_resnet"]
    tensors = torch_names.to_torch(module, random_variables(module))
    del tensors["layer1.0.bias1a"]
    tensors["layer1.0.bn1.weight"] = np.zeros(4, np.float32)
    tensors["fc.weight"] = np.zeros((5, 8), np.float32)
    with pytest.raises(ValueError, match="3 tensors do not fit FixupResNet") as error:
        torch_names.from_torch(module, tensors)
    assert str(error.value).splitlines()[1:] == [
        "  extra: layer1.0.bn1.weight [4]",
        "  missing: layer1.0.bias1a (params/stage1_block1/bias1a)",
        "  shape: fc.weight (params/head/kernel): expected [3, 8], got [5, 8]",
    ]


def test_golden_logits_of_torchvision():
    golden = np.load("tests/golden/resnet_torchvision.npz")
    module = models.make("resnet18", num_classes=10)
    names = {torch_names.torch_name(module, n): n for n in torch_names.shapes(module)}
    tensors = torch_names.to_torch(module, random_variables(module))
    filled = {n: reference.fill(n, t.shape, 0) for n, t in tensors.items() if n in names}
    for name in filled:
        if name.endswith("running_var"):
            filled[name] = np.abs(filled[name]) + 0.5
    variables, _ = torch_names.from_torch(module, filled)
    inputs = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    logits = jax.jit(module.apply)(variables, jnp.asarray(inputs.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(logits, golden["logits"], rtol=1e-4, atol=1e-5)
    assert set(golden["names"]) == set(tensors)


def test_other_families_have_no_names():
    class Other(nn.Module):
        pass

    with pytest.raises(ValueError, match=r"PyTorch names \(ConvNeXt, .*\), got Other"):
        torch_names.torch_name(Other(), "params/a/kernel")


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "model.", "backbone.", "any.0.thing."])
def test_a_prefix_that_all_names_share_is_taken_off(prefix):
    module = NETS["resnet"]
    variables = random_variables(module)
    tensors = torch_names.to_torch(module, variables)
    wrapped = {f"{prefix}{name}": value for name, value in tensors.items()}
    found, skipped = torch_names.from_torch(module, wrapped)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert "bn1.num_batches_tracked" in skipped
    partly = wrapped | {"head.weight": np.zeros(2, np.float32)}
    with pytest.raises(ValueError, match=rf"extra: ({prefix}bn1.bias|head.weight) \["):
        torch_names.from_torch(module, partly)
