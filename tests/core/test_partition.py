import functools
import re

import jax
import jax.numpy as jnp
import pytest

from tests.core import models as tiny
from tests.helpers import tiny_models
from tlx import models
from tlx.core import labels as labels_lib
from tlx.core import partition, tree

VIT = (
    "cls",
    "embedding/kernel",
    "Transformer/posembed_input/pos_embedding",
    "Transformer/encoderblock_0/LayerNorm_0/scale",
    "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel",
    "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/out/bias",
    "Transformer/encoderblock_0/LayerNorm_2/bias",
    "Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel",
    "Transformer/encoder_norm/scale",
    "head/kernel",
)
HUGGING_FACE = (
    "vit/embeddings/cls_token",
    "vit/embeddings/patch_embeddings/projection/kernel",
    "vit/encoder/layer/0/layernorm_before/scale",
    "vit/encoder/layer/0/attention/attention/query/kernel",
    "vit/encoder/layer/0/attention/output/dense/kernel",
    "vit/encoder/layer/0/intermediate/dense/kernel",
    "vit/encoder/layer/0/output/dense/kernel",
    "vit/layernorm/scale",
    "classifier/kernel",
)
GPT = (
    "transformer/wte/embedding",
    "transformer/wpe/embedding",
    "transformer/h/0/ln_1/scale",
    "transformer/h/0/attn/c_attn/kernel",
    "transformer/h/0/mlp/c_fc/kernel",
    "transformer/ln_f/scale",
    "lm_head/kernel",
)
LLAMA = (
    "model/embed_tokens/weight",
    "model/layers/11/input_layernorm/weight",
    "model/layers/11/self_attn/q_proj/weight",
    "model/layers/11/mlp/gate_proj/weight",
)
T5 = (
    "shared/embedding",
    "encoder/block/0/layer/0/SelfAttention/q/weight",
    "encoder/block/0/layer/0/layer_norm/weight",
    "encoder/block/0/layer/1/DenseReluDense/wi/weight",
)


def _tree(names):
    return tree.nested(dict.fromkeys(names, 0.0))


def _labels(names, level, **options):
    """Label by leaf name."""
    return tree.named_leaves(partition.by_level(_tree(names), level, **options))


@functools.cache
def _abstract(name, **options):
    model = models.make(name, num_classes=3, width=4, **options)
    inputs = jnp.zeros((2, 16, 16, 3))
    return model, jax.eval_shape(model.init, jax.random.key(0), inputs), inputs


@pytest.mark.parametrize("name", ["fixup_resnet18", "resnet50"])
def test_blocks_and_stages_of_the_models(name):
    model, variables, _ = _abstract(name)
    blocks = partition.by_level(variables, "block")
    assert jax.tree.structure(blocks) == jax.tree.structure(variables)
    at_first = partition.by_depth(variables, 1)
    for leaf, label in tree.named_leaves(blocks).items():
        module, *rest = leaf.split("/")[1:]
        assert label == (module if "_block" in module else "/".join([module, *rest[:-1]]))
        assert tree.named_leaves(at_first)[leaf] == module
    assert set(labels_lib.unique(at_first)) == set(model.module_names)
    inside = [module for module in model.module_names if module.startswith("stage")]
    assert {label for label in labels_lib.unique(blocks) if label.startswith("stage")} == set(
        inside
    )
    stages = set(labels_lib.unique(partition.by_level(variables, "stage")))
    assert {x for x in stages if x.startswith("stage")} == {f"stage{i}" for i in (1, 2, 3, 4)}
    assert stages == {x for x in labels_lib.unique(blocks) if "stage" not in x} | {
        f"stage{i}" for i in (1, 2, 3, 4)
    }


def test_batch_statistics_are_in_the_layer_of_their_norm():
    _, variables, _ = _abstract("resnet50")
    layers = partition.by_level(variables, "layer")
    own = labels_lib.groups(variables, layers)["stage2_block1/norm3"]
    assert len(own) == 4
    assert layers["batch_stats"]["stem"]["norm"]["mean"] == "stem/norm"
    assert layers["params"]["head"] == {"kernel": "head", "bias": "head"}
    kept = partition.by_depth(variables, 1, collections=())
    assert labels_lib.unique(kept) == ("batch_stats", "params")


def test_each_tensor_is_its_own_module_by_its_name():
    _, variables, _ = _abstract("resnet50")
    names = tree.names(variables)
    assert tuple(jax.tree.leaves(partition.by_level(variables, "tensor"))) == names


def test_depth_counts_what_holds_tensors():
    params = _tree(["params/a/b/c/kernel", "params/a/bias", "params/cls"])
    for depth, expected in (
        (1, ["a", "a", "cls"]),
        (2, ["a/b", "a", "cls"]),
        (9, ["a/b/c", "a", "cls"]),
    ):
        assert jax.tree.leaves(partition.by_depth(params, depth)) == expected


@pytest.mark.parametrize(
    ("name", "block", "stage"),
    [
        ("stage1_block2/conv1/kernel", "stage1_block2", "stage1"),
        ("layer1/0/downsample/0/weight", "layer1/0", "layer1"),
        ("layer1.0.bn1.running_mean", "layer1/0", "layer1"),
        ("layer3/layers/1/conv1/weight", "layer3/layers/1", "layer3"),
        ("stages/0/blocks/1/conv1/kernel", "stages/0/blocks/1", "stages/0"),
        ("layers/2/blocks/1/attn/qkv/weight", "layers/2/blocks/1", "layers/2"),
        ("resnet/encoder/stages/0/layers/1/layer/0/kernel", "resnet/encoder/stages/0/layers/1",
         "resnet/encoder/stages/0"),
        ("blocks/0/1/conv1/kernel", "blocks/0/1", "blocks/0"),
        ("features/1/0/mlp/0/weight", "features/1/0", "features/1"),
        ("net/~/block_group_0/~/block_1/~/conv_0/w", "net/~/block_group_0/~/block_1",
         "net/~/block_group_0"),
        ("features/3/conv/0/0/weight", "features/3", None),
        ("ResNetBlock_2/Conv_0/kernel", "ResNetBlock_2", None),
        ("backbone/Bottleneck_1/Conv_0/kernel", "backbone/Bottleneck_1", None),
        ("Transformer/encoderblock_3/MlpBlock_3/Dense_0/bias", "Transformer/encoderblock_3", None),
        ("encoder/layer/3/output/dense/kernel", "encoder/layer/3", None),
        ("encoder/layers/encoder_layer_3/mlp/0/weight", "encoder/layers/encoder_layer_3", None),
        ("transformer/h/10/attn/c_attn/kernel", "transformer/h/10", None),
        ("layers/3/linear/kernel", "layers/3", None),
        ("Block_2/Dense_0/kernel", "Block_2", None),
    ],
)  # fmt: skip
def test_blocks_and_stages_by_name(name, block, stage):
    head = "LayerNorm_0/scale"
    assert _labels((name, head), "block") == {name: block, head: "LayerNorm_0"}
    if stage is not None:
        assert _labels((name, head), "stage")[name] == stage
    else:
        with pytest.raises(ValueError, match="expected names that show the level 'stage'"):
            _labels((name, head), "stage")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (VIT, "embedding embedding embedding Transformer/encoderblock_0/norm "
         "Transformer/encoderblock_0/attention Transformer/encoderblock_0/attention "
         "Transformer/encoderblock_0/norm Transformer/encoderblock_0/mlp "
         "Transformer/encoder_norm head"),
        (HUGGING_FACE, "embedding embedding vit/encoder/layer/0/norm vit/encoder/layer/0/attention "
         "vit/encoder/layer/0/attention vit/encoder/layer/0/mlp vit/encoder/layer/0/mlp "
         "vit/layernorm classifier"),
        (GPT, "embedding embedding transformer/h/0/norm transformer/h/0/attention "
         "transformer/h/0/mlp transformer/ln_f lm_head"),
        (LLAMA, "embedding model/layers/11/norm model/layers/11/attention model/layers/11/mlp"),
        (T5, "embedding encoder/block/0/attention encoder/block/0/norm encoder/block/0/mlp"),
    ],
    ids=["flax", "hugging-face", "gpt", "llama", "t5"],
)  # fmt: skip
def test_parts_of_transformers(names, expected):
    found = _labels(names, "part")
    assert [found[name] for name in names] == expected.split()


def test_a_leaf_of_a_block_that_is_no_part_keeps_its_layer():
    names = ("h/0/attn/kernel", "h/0/gate/scale")
    assert _labels(names, "part")["h/0/gate/scale"] == "h/0/gate"


def test_blocks_behind_the_pair_of_an_adapter():
    names = ("0/layers/1/conv/w", "1/layers/1/norm/mean", "0/head/w")
    found = _labels(names, "block", collections=("0", "1"))
    assert list(found.values()) == ["head", "layers/1", "layers/1"]


@pytest.mark.parametrize("framework", tiny_models.FRAMEWORKS)
def test_every_framework_has_layers_and_no_blocks(framework):
    params = tiny_models.make(framework, 0).params
    labels = partition.by_level(params, "layer", collections=("params", "batch_stats", "0", "1"))
    assert jax.tree.structure(labels) == jax.tree.structure(params)
    assert {"hidden", "norm", "head"} <= set(labels_lib.unique(labels))
    with pytest.raises(ValueError, match="level 'block', got the layers "):
        partition.by_level(params, "block")


def _deep(params, inputs):
    """Twelve layers of a list, the head first in the tree; one leaf is never used."""
    params = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    x = inputs + params["a_stem"]
    for i in range(12):
        x = jnp.tanh(x @ params["h"][str(i)]["kernel"])
    return x @ params["a_head"] + params["b_tail"]["bias"][None]


def _deep_params():
    square = jnp.ones((3, 3), jnp.bfloat16)
    return {
        "a_head": square,
        "a_dead": square,
        "a_stem": square[:1],
        "b_tail": {"bias": square[0]},
        "h": {str(i): {"kernel": square} for i in range(12)},
    }


def test_forward_order_of_a_model_that_casts_its_weights():
    params = _deep_params()
    labels = partition.by_level(params, "block")
    numbers = [f"h/{i}" for i in range(12)]
    assert labels_lib.unique(labels)[:6] == ("a_dead", "a_head", "a_stem", "b_tail", "h/0", "h/1")
    assert labels_lib.unique(labels)[6] == "h/10"
    order = partition.in_forward_order(_deep, params, jnp.ones((2, 3)), labels)
    assert order == ("a_stem", *numbers, "a_head", "b_tail", "a_dead")


def test_forward_order_of_resnets():
    for name in ("fixup_resnet18", "resnet50"):
        model, variables, inputs = _abstract(name)
        labels = partition.by_depth(variables, 1)
        apply_fn = functools.partial(model.apply, train=False)
        assert partition.in_forward_order(apply_fn, variables, inputs, labels) == model.module_names


def test_forward_order_within_a_loop_is_that_of_the_leaves():
    params = {"b": jnp.ones((4, 2, 2)), "a": jnp.ones((4, 2)), "c": jnp.ones(2)}

    def apply_fn(params, x):
        step = lambda x, p: (x @ p[0] + p[1][None], None)  # noqa: E731
        return jax.lax.scan(step, x * params["c"][None], (params["b"], params["a"]))[0]

    labels = partition.by_level(params, "tensor")
    order = partition.in_forward_order(apply_fn, params, jnp.ones((3, 2)), labels)
    assert order == ("c", "a", "b")


def test_no_parameters_have_no_labels():
    for level in ("tensor", "layer", "block", "stage", "part"):
        assert partition.by_level({}, level) == {}
    assert partition.by_depth({}, 3) == {}


def test_errors():
    params = tiny.make_params(0)
    with pytest.raises(ValueError, match="expected a depth of at least 1, got 0"):
        partition.by_depth(params, 0)
    with pytest.raises(ValueError, match="unknown level 'blok'; did you mean 'block'"):
        partition.by_level(params, "blok")
    message = (
        "expected names that show the level 'stage', got the layers head, hidden; write rules "
        "for this model (tlx.core.labels.from_rules), cut names at a depth (by_depth), or drop "
        "their first part (collections=)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        partition.by_level(params, "stage")
    with pytest.raises(ValueError, match="layers l0, l1, l2, l3, l4, l5, l6, l7 and 3 more;"):
        partition.by_level({f"l{i}": {"b": 0.0} for i in range(9)} | {"x": 0.0, "y": 0.0}, "part")
    with pytest.raises(ValueError, match="labels with the structure of params"):
        partition.in_forward_order(tiny.apply_fn, params, jnp.ones((1, 5)), {"head": "head"})
