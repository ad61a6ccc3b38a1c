"""ViT, ConvNeXt and MobileNetV2 against torchvision's and timm's, and their own promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import torch_names as reference
from tlx import models
from tlx.core import tree
from tlx.models import depthwise, torch_names, vit

NETS = {
    "vit": models.make("vit", num_classes=5, patch=8, width=16, depth=2, heads=2, grid=4),
    "convnext": models.make("convnext", num_classes=5, stage_sizes=(2, 1, 1, 1), width=8),
    "mobilenet_v2": models.make("mobilenet_v2", num_classes=5, width=0.35),
}
NETS["vit_resized"] = NETS["vit"]
SIZES = {"vit": (32, 32), "vit_resized": (48, 24), "convnext": (40, 32), "mobilenet_v2": (64, 64)}
CASES = (
    "vit/torchvision",
    "vit/timm",
    "vit_resized/timm",
    "convnext/torchvision",
    "convnext/timm",
    "mobilenet_v2/timm",
)


@functools.cache
def golden():
    return dict(np.load("tests/golden/backbones.npz"))


@functools.cache
def filled(case):
    """Tensors that are a function of the library's names, as the golden logits were made of."""
    name, library = case.split("/")
    module = NETS[name]
    zeros = {leaf: np.zeros(like.shape) for leaf, like in torch_names.shapes(module).items()}
    found = torch_names.to_torch(module, tree.nested(zeros), library)
    for key, value in found.items():
        if not key.endswith(torch_names.COUNTER):
            found[key] = reference.fill(key, value.shape, 0)
        if key.endswith("running_var"):
            found[key] = np.abs(found[key]) + 0.5
    return found


@pytest.mark.parametrize("case", CASES)
def test_names_and_logits_of_the_library(case):
    module = NETS[case.split("/")[0]]
    tensors = filled(case)
    assert sorted(tensors) == list(golden()[f"{case}/names"])
    variables, skipped = torch_names.from_torch(module, tensors)
    assert set(skipped.values()) <= {"a counter"}
    size = SIZES[case.split("/")[0]]
    images = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
    logits = jax.jit(module.apply)(variables, jnp.asarray(images.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(logits, golden()[f"{case}/logits"], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("case", CASES)
def test_there_and_back(case):
    module, library = NETS[case.split("/")[0]], case.split("/")[1]
    variables, _ = torch_names.from_torch(module, filled(case))
    again = torch_names.to_torch(module, variables, library)
    jax.tree.map(np.testing.assert_array_equal, again, filled(case))
    assert torch_names.library_of(module, again) == library


@pytest.mark.parametrize(
    ("name", "count"),
    # of timm's and torchvision's model cards
    [("vit_s16", 22_050_664), ("vit_b16", 86_567_656), ("convnext_tiny", 28_589_128)],
)
def test_full_size(name, count):
    module = models.make(name, num_classes=1000)
    leaves = torch_names.shapes(module)
    assert sum(leaf.size for leaf in leaves.values()) == count


def test_resizing_positions_is_linear_and_leaves_a_constant():
    table = jax.random.normal(jax.random.key(0), (1, 17, 3))
    assert vit._resized(table, 4, (4, 4)) is table
    found = vit._resized(table, 4, (6, 2))
    assert found.shape == (1, 13, 3)
    np.testing.assert_array_equal(found[:, 0], table[:, 0])
    doubled = vit._resized(2.0 * table + 1.0, 4, (6, 2))
    np.testing.assert_allclose(doubled, 2.0 * found + 1.0, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "convnext"])
def test_rows_do_not_see_each_other_and_training_is_evaluation(name):
    module = NETS[name]
    variables, _ = torch_names.from_torch(module, filled(f"{name}/timm"))
    x = jax.random.normal(jax.random.key(0), (3, 32, 64, 3))
    apply = jax.jit(module.apply, static_argnames="train")
    logits = apply(variables, x)
    np.testing.assert_allclose(apply(variables, x[1:2]), logits[1:2], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(apply(variables, x, train=True), logits)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("sides", [(5, 8), (1, 2)])
def test_depthwise_forms_agree(stride, size, sides):
    rng = np.random.default_rng(0)
    draw = functools.partial(rng.standard_normal, dtype=np.float32)
    point = draw((4, *sides, 3)), draw((size, size, 1, 3))
    direction = draw((4, *sides, 3)), draw((size, size, 1, 3))

    @functools.partial(jax.jit, static_argnums=0)
    def everything(form):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(form(x, kernel, stride)))

        # the value, the gradient, and the second derivative along a direction
        return jax.jvp(jax.value_and_grad(loss, (0, 1)), point, direction)

    ours, theirs = everything(depthwise._shifted), everything(depthwise._grouped)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4), ours, theirs)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("vit", {"heads": 5}, "heads that divide width 768, got 5"),
        ("vit", {"mlp": 0}, "mlp as an integer of at least 1, got 0"),
        ("vit", {"patch": 0}, "patch as an integer of at least 1, got 0"),
        ("convnext", {"stage_sizes": ()}, "stage_sizes of at least one stage"),
        ("convnext", {"head_init": "ones"}, "unknown head_init 'ones'"),
    ],
)
def test_fields_out_of_range(name, values, message):
    with pytest.raises(ValueError, match=message):
        models.make(name, **{"num_classes": 3, **values})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit", r"multiples of its patches of 8 pixels, got 12 x 6; resize or pad them"),
        ("convnext", r"at least 32 x 32 pixels for a ConvNeXt of 4 stages, got 12 x 6"),
    ],
)
def test_images_of_other_sizes(name, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(NETS[name].init, jax.random.key(0), jnp.zeros((1, 12, 6, 3)))


def test_names_of_a_library_that_is_not_known():
    with pytest.raises(ValueError, match="unknown library of names 'tim'; did you mean 'timm'"):
        torch_names.torch_name(NETS["vit"], torch_names.STEM, "tim")
