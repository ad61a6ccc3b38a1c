"""The names of our models' parts in PyTorch's libraries: a table for each family and library.

A scheme maps the path of a submodule to a template of its tensors' names, in which "{}" stands
for "weight", "bias" and so on. Paths of a block are within the block.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn

from tlx.models.convnext import ConvNeXt
from tlx.models.fixup_resnet import FixupResNet
from tlx.models.mobilenet_v2 import MobileNetV2
from tlx.models.resnet import ResNet
from tlx.models.vit import ViT

Table = Mapping[str, str]


class Scheme(NamedTuple):
    """How one library names one family: what is in no block, blocks, and what is in them."""

    outer: Table
    block: Callable[[Any, str], str]
    inner: Callable[[Any, str], Table]


def _stage(name: str) -> tuple[int, int]:
    """(2, 0) of "stage2_block1": the stage, and the place in it."""
    stage, block = name.removeprefix("stage").split("_block")
    return int(stage), int(block) - 1


def _layers(module: nn.Module, name: str) -> str:
    return "layer{}.{}.".format(*_stage(name))


def _constant(table: Table) -> Callable[[Any, str], Table]:
    return lambda module, name: table


def _same(*names: str) -> dict[str, str]:
    return {name: f"{name}.{{}}" for name in names}


_RESNET = Scheme(
    outer={"stem/conv": "conv1.{}", "stem/norm": "bn1.{}", "head": "fc.{}"},
    block=_layers,
    inner=_constant(
        _same("conv1", "conv2", "conv3")
        | {"norm1": "bn1.{}", "norm2": "bn2.{}", "norm3": "bn3.{}"}
        | {"downsample": "downsample.0.{}", "downsample_norm": "downsample.1.{}"}
    ),
)

_FIXUP = Scheme(
    outer={"stem/conv": "conv1.{}", "stem": "{}", "pooled": "{}", "head": "fc.{}"},
    block=_layers,
    inner=_constant({"": "{}"} | _same("conv1", "conv2", "conv3", "downsample")),
)


def _expands(module: MobileNetV2, name: str) -> bool:
    return module.stages[_stage(name)[0] - 1][0] != 1


def _mobilenet_layers(module: MobileNetV2, name: str) -> Table:
    """The names of a block: each layer but the last is a separate pair."""
    layers = ["expand", "depthwise"] if _expands(module, name) else ["depthwise"]
    table = {layer: f"{i}.0.{{}}" for i, layer in enumerate(layers)}
    table |= {f"{layer}_norm": f"{i}.1.{{}}" for i, layer in enumerate(layers)}
    last = len(layers)
    return table | {"project": f"{last}.{{}}", "project_norm": f"{last + 1}.{{}}"}


def _timm_mobilenet_layers(module: MobileNetV2, name: str) -> Table:
    """Their names follow what a layer is in the block, and the norms' are numbers."""
    if _expands(module, name):
        layers = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
    else:
        layers = {"depthwise": "conv_dw", "project": "conv_pw"}
    table = {layer: f"{theirs}.{{}}" for layer, theirs in layers.items()}
    return table | {f"{layer}_norm": f"bn{i}.{{}}" for i, layer in enumerate(layers, start=1)}


_MOBILENET = Scheme(
    outer={
        "stem/conv": "features.0.0.{}",
        "stem/norm": "features.0.1.{}",
        "last/conv": "features.{end}.0.{}",
        "last/norm": "features.{end}.1.{}",
        "head": "classifier.1.{}",
    },
    block=lambda module, name: f"features.{module.module_names.index(name)}.conv.",
    inner=_mobilenet_layers,
)

_TIMM_MOBILENET = Scheme(
    outer={
        "stem/conv": "conv_stem.{}",
        "stem/norm": "bn1.{}",
        "last/conv": "conv_head.{}",
        "last/norm": "bn2.{}",
        "head": "classifier.{}",
    },
    block=lambda module, name: f"blocks.{_stage(name)[0] - 1}.{_stage(name)[1]}.",
    inner=_timm_mobilenet_layers,
)

_VIT = Scheme(
    outer={
        "stem/conv": "conv_proj.{}",
        "stem": "{}",
        "stem/positions": "encoder.pos_embedding",
        "norm": "encoder.ln.{}",
        "head": "heads.head.{}",
    },
    block=lambda module, name: (
        f"encoder.layers.encoder_layer_{int(name.removeprefix('block')) - 1}."
    ),
    inner=_constant(
        {
            "norm1": "ln_1.{}",
            "qkv": "self_attention.in_proj_{}",
            "out": "self_attention.out_proj.{}",
            "norm2": "ln_2.{}",
            "mlp1": "mlp.0.{}",
            "mlp2": "mlp.3.{}",
        }
    ),
)

_TIMM_VIT = Scheme(
    outer={
        "stem/conv": "patch_embed.proj.{}",
        "stem/class_token": "cls_token",
        "stem/positions": "pos_embed",
        "norm": "norm.{}",
        "head": "head.{}",
    },
    block=lambda module, name: f"blocks.{int(name.removeprefix('block')) - 1}.",
    inner=_constant(
        _same("norm1", "norm2")
        | {"qkv": "attn.qkv.{}", "out": "attn.proj.{}", "mlp1": "mlp.fc1.{}", "mlp2": "mlp.fc2.{}"}
    ),
)


def _convnext_layers(module: ConvNeXt, name: str) -> Table:
    stage, block = _stage(name)
    inside = f"features.{2 * stage - 1}.{block}."
    before = f"features.{2 * stage - 2}."
    return {
        "downsample_norm": before + "0.{}",
        "downsample": before + "1.{}",
        "": inside + "{}",
        "depthwise": inside + "block.0.{}",
        "norm": inside + "block.2.{}",
        "mlp1": inside + "block.3.{}",
        "mlp2": inside + "block.5.{}",
    }


def _timm_convnext_layers(module: ConvNeXt, name: str) -> Table:
    stage, block = _stage(name)
    before, inside = f"stages.{stage - 1}.downsample.", f"stages.{stage - 1}.blocks.{block}."
    return {
        "downsample_norm": before + "0.{}",
        "downsample": before + "1.{}",
        "layer_scale": inside + "gamma",
        "depthwise": inside + "conv_dw.{}",
        "norm": inside + "norm.{}",
        "mlp1": inside + "mlp.fc1.{}",
        "mlp2": inside + "mlp.fc2.{}",
    }


_CONVNEXT = Scheme(
    outer={
        "stem/conv": "features.0.0.{}",
        "stem/norm": "features.0.1.{}",
        "norm": "classifier.0.{}",
        "head": "classifier.2.{}",
    },
    block=lambda module, name: "",
    inner=_convnext_layers,
)

_TIMM_CONVNEXT = Scheme(
    outer={
        "stem/conv": "stem.0.{}",
        "stem/norm": "stem.1.{}",
        "norm": "head.norm.{}",
        "head": "head.fc.{}",
    },
    block=lambda module, name: "",
    inner=_timm_convnext_layers,
)

SCHEMES: dict[type[nn.Module], dict[str, Scheme]] = {
    ConvNeXt: {"torchvision": _CONVNEXT, "timm": _TIMM_CONVNEXT},
    FixupResNet: {"authors": _FIXUP},
    MobileNetV2: {"torchvision": _MOBILENET, "timm": _TIMM_MOBILENET},
    ResNet: {"torchvision": _RESNET, "timm": _RESNET},
    ViT: {"torchvision": _VIT, "timm": _TIMM_VIT},
}
"""Family -> library -> its names; the first is the one that weights are written with."""


def name_of(scheme: Scheme, module: Any, leaf: str) -> str:
    """PyTorch's name of a leaf "params/stage1_block1/conv1/kernel" or of "batch_stats"."""
    _, top, *path, last = leaf.split("/")
    if last == "kernel" or (last == "scale" and _is_norm(top, path)):
        last = "weight"
    last = {"mean": "running_mean", "var": "running_var"}.get(last, last)
    prefix, table = "", scheme.outer
    if "block" in top:
        prefix, table = scheme.block(module, top), scheme.inner(module, top)
    else:
        path = [top, *path]
    template = table.get("/".join([*path, last])) or table["/".join(path)]
    # "{end}": torchvision numbers MobileNetV2's parts, the head not counted
    return prefix + template.format(last, end=len(module.module_names) - 2)


def _is_norm(top: str, path: list[str]) -> bool:
    """Whether a "scale" there is that of a normalisation, which PyTorch calls "weight"."""
    return "norm" in (path[-1] if path else top)
