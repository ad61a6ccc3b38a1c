"""The registry, and what every model promises: names, shapes, dtypes, initial values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx import models
from tlx.core import tree
from tlx.models import layout

SMALL = {"width": 8, "stage_sizes": (1, 2), "stem": "small"}
FAMILIES = ("fixup_resnet", "resnet")


def small(name, dtype="float32", block="basic", **kwargs):
    return models.make(name, dtype=dtype, **SMALL | {"block": block, "num_classes": 5} | kwargs)


@functools.cache
def built(name, **kwargs):
    """A small model, its variables, and inputs [3, 8, 8, 1]."""
    model = small(name, **kwargs)
    x = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    return model, jax.jit(model.init)(jax.random.key(0), x), x


@functools.cache
def jitted_features(model):
    return jax.jit(functools.partial(model.apply, method="features"))


def features_of(model, variables, x):
    return jitted_features(model)(variables, x)


def shapes_of(model, inputs, method="__call__"):
    """The shapes of a model's outputs and variables, of one trace."""
    init = functools.partial(model.init_with_output, method=method)
    x = jax.ShapeDtypeStruct(inputs, jnp.float32)
    return jax.eval_shape(init, jax.random.key(0), x)


def perturbed(variables):
    """Variables in which nothing is zero, so that every path carries a signal."""
    rng = np.random.default_rng(2)

    def draw(leaf):
        return np.asarray(leaf) + np.float32(0.1 * np.abs(rng.standard_normal(leaf.shape)))

    return jax.tree.map(draw, variables)


@pytest.mark.parametrize(
    ("name", "num_classes", "count"),
    [
        ("fixup_resnet50", 345, 24_161_931),
        ("fixup_resnet50", 5, 23_465_271),
        # PyTorch's own ResNets have these with 1000 classes
        ("resnet18", 1000, 11_689_512),
        ("resnet34", 1000, 21_797_672),
        ("resnet50", 1000, 25_557_032),
        ("resnet101", 1000, 44_549_160),
        ("resnet152", 1000, 60_192_808),
    ],
)
def test_parameter_counts(name, num_classes, count):
    model = models.make(name, num_classes=num_classes)
    params = shapes_of(model, (1, 64, 64, 3))[1]["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


# other tests add some of their own
OURS = [n for n, m in models.MODELS.items() if getattr(m, "func", m).__module__.startswith("tlx.")]


@pytest.mark.parametrize("name", sorted(OURS))
def test_module_and_layer_names(name):
    model = models.make(name, num_classes=3, dtype="bfloat16")
    features, variables = shapes_of(model, (2, 64, 64, 3), method="features")
    assert set(model.module_names) == set(variables["params"])
    assert set(variables.get("batch_stats", ())) <= set(model.module_names)
    assert model.module_names[-1] == "head"
    assert set(variables["params"]["head"]) == {"kernel", "bias"}
    assert tuple(features) == model.layer_names
    assert {f.shape[0] for f in features.values()} == {2}
    assert features["logits"].shape == (2, 3)
    assert {f.dtype.name for f in jax.tree.leaves(variables)} == {"float32"}
    body = {features[k].dtype.name for k in model.layer_names if k not in ("pooled", "logits")}
    assert body == {"bfloat16"}
    assert features["pooled"].dtype == features["logits"].dtype == jnp.float32


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("name", FAMILIES)
def test_small_stem_shapes(name, block):
    model = small(name, block=block)
    _, variables = shapes_of(model, (3, 8, 8, 1))
    x = jax.ShapeDtypeStruct((3, 8, 8, 1), jnp.float32)
    found = jax.eval_shape(jitted_features(model), variables, x)
    wide = layout.EXPANSION[block]
    assert {layer: f.shape for layer, f in found.items()} == {
        "stem": (3, 8, 8, 8),
        "stage1_block1": (3, 8, 8, 8 * wide),
        "stage2_block1": (3, 4, 4, 16 * wide),
        "stage2_block2": (3, 4, 4, 16 * wide),
        "pooled": (3, 16 * wide),
        "logits": (3, 5),
    }
    assert tuple(found) == model.layer_names  # the order survives jit


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_the_last_feature_and_the_head_reads_pooled(name):
    model, variables, x = built(name)
    variables = perturbed(variables)
    found = features_of(model, variables, x)
    logits = jax.jit(model.apply)(variables, x)
    np.testing.assert_allclose(logits, found["logits"], rtol=1e-6, atol=1e-6)
    head = variables["params"]["head"]
    expected = found["pooled"] @ head["kernel"] + head["bias"][None]
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_row_by_row(name):
    model, variables, x = built(name)
    variables = perturbed(variables)
    one = features_of(model, variables, x[1:2])["logits"]
    all_rows = features_of(model, variables, x)["logits"]
    np.testing.assert_allclose(all_rows[1:2], one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_is_near_float32(name):
    model, variables, x = built(name)
    variables = perturbed(variables)
    half = features_of(small(name, dtype="bfloat16"), variables, x)["logits"]
    full = features_of(model, variables, x)["logits"]
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, full, rtol=0.05, atol=0.05 * float(jnp.abs(full).max()))


@pytest.mark.parametrize("name", FAMILIES)
def test_equal_arguments_give_equal_modules(name):
    one, two = (models.make(name, num_classes=5, **SMALL) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != models.make(name, num_classes=6, **SMALL)


def test_fixup_initial_values():
    model = models.make("fixup_resnet", num_classes=9, stage_sizes=(1, 3), width=64, stem="small")
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    block = params["stage2_block1"]
    assert np.std(block["conv1"]["kernel"]) == pytest.approx(
        (2 / (128 * 9)) ** 0.5 * 4**-0.5, rel=0.02
    )
    assert np.std(block["downsample"]["kernel"]) == pytest.approx((2 / 128) ** 0.5, rel=0.03)
    assert not np.any(block["conv2"]["kernel"])
    stem = np.asarray(params["stem"]["conv"]["kernel"])
    assert np.abs(stem).max() <= 27**-0.5
    assert np.var(stem) == pytest.approx(1 / (3 * 27), rel=0.1)
    for name, leaf in zip(tree.names(params), jax.tree.leaves(params), strict=True):
        if "bias" in name or name.startswith("head"):
            assert not np.any(leaf), name
        if name.endswith("scale"):
            assert leaf.shape == (1,)
            assert leaf[0] == 1


def test_fixup_bottleneck_initial_values():
    model = models.make(
        "fixup_resnet", num_classes=9, stage_sizes=(1, 2), width=64, block="bottleneck"
    )
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    block = params["stage2_block2"]
    gain = 3**-0.25
    expected = {"conv1": gain * (2 / 128) ** 0.5, "conv2": gain * (2 / (128 * 9)) ** 0.5}
    for name, std in expected.items():
        assert np.std(block[name]["kernel"]) == pytest.approx(std, rel=0.02)
    assert not np.any(block["conv3"]["kernel"])


def test_uniform_head():
    _, variables, _ = built("fixup_resnet", head_init="uniform", num_classes=500)
    for leaf in variables["params"]["head"].values():
        assert 0.9 / 4 < np.abs(leaf).max() <= 1 / 4
        assert np.var(leaf) == pytest.approx(1 / 48, rel=0.15)


def test_fixup_starts_as_the_identity():
    """With the last convolution of each block at zero a block is relu of its shortcut."""
    model, variables, x = built("fixup_resnet")
    found = features_of(model, variables, x)
    np.testing.assert_array_equal(found["stage1_block1"], found["stem"])
    np.testing.assert_array_equal(found["stage2_block2"], found["stage2_block1"])


def test_batch_statistics():
    model, variables, x = built("resnet")
    trained = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    logits, updated = jax.jit(trained)(variables, x)
    assert logits.shape == (3, 5)
    kernel = variables["params"]["stem"]["conv"]["kernel"]
    pads = [(1, 1), (1, 1)]
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = np.asarray(y)
    mean, var = np.mean(y, (0, 1, 2)), np.var(y, (0, 1, 2))
    stats = updated["batch_stats"]["stem"]["norm"]
    np.testing.assert_allclose(stats["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * var, rtol=1e-4)
    assert jax.tree.structure(updated["batch_stats"]) == jax.tree.structure(
        variables["batch_stats"]
    )
    features, _ = jax.jit(functools.partial(trained, method="features"))(variables, x)
    shape = (1, 1, 1, 8)
    normed = (y - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + 1e-5)
    np.testing.assert_allclose(features["stem"], np.maximum(normed, 0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet81",), "unknown model 'resnet81'; did you mean 'resnet18'"),
        (("resnet18", {"widht": 8}), "unknown option of model 'resnet18' 'widht'; did you mean"),
        (("resnet18", {"stem": "tiny"}), "ResNet: unknown stem 'tiny'"),
        (("fixup_resnet", {"block": "basics"}), "FixupResNet: unknown block 'basics'"),
        (("fixup_resnet", {"head_init": "zero"}), "did you mean 'zeros'"),
        (("fixup_resnet18", {"dtype": "float16"}), "unknown dtype 'float16'"),
        (("resnet", {"width": 0}), "width as an integer of at least 1, got 0"),
        (("resnet", {"stage_sizes": ()}), "stage_sizes of at least one stage"),
        (("resnet", {"stage_sizes": (1, 0)}), r"stage_sizes\[1\] as an integer"),
    ],
)
def test_bad_arguments(arguments, message):
    name, *rest = arguments
    with pytest.raises(ValueError, match=message):
        models.make(name, num_classes=3, **(rest[0] if rest else {}))


def test_bad_kinds():
    with pytest.raises(TypeError, match="stage_sizes as a tuple"):
        models.make("resnet", num_classes=3, stage_sizes=[1, 1])
    model, variables, x = built("fixup_resnet")
    with pytest.raises(ValueError, match=r"got shape \(3, 8, 8\); add the missing axis"):
        model.apply(variables, x[..., 0])
    with pytest.raises(TypeError, match="got uint8; normalise the images first"):
        model.apply(variables, x.astype(jnp.uint8))
