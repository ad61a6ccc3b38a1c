"""Model definitions (Flax Linen) without training logic, behind one explicit registry.

Every model has `module_names` (the first level of its parameter tree), `layer_names` and
`features`, and is called as `model.apply(variables, inputs, train=False)`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from tlx.core import checks
from tlx.models import layout
from tlx.models.convnext import ConvNeXt
from tlx.models.fixup_resnet import FixupResNet
from tlx.models.mobilenet_v2 import MobileNetV2
from tlx.models.resnet import ResNet
from tlx.models.vit import ViT

__all__ = ["MODELS", "ConvNeXt", "FixupResNet", "MobileNetV2", "ResNet", "ViT", "make"]


def _family(name: str, model: type[nn.Module]) -> dict[str, Callable[..., nn.Module]]:
    """The free form under `name`, and one entry for each depth of `layout.DEPTHS`."""
    depths: dict[str, Callable[..., nn.Module]] = {
        f"{name}{depth}": functools.partial(model, block=block, stage_sizes=stage_sizes)
        for depth, (block, stage_sizes) in layout.DEPTHS.items()
    }
    return {name: model, **depths}


MODELS: dict[str, Callable[..., nn.Module]] = {
    **_family("fixup_resnet", FixupResNet),
    **_family("resnet", ResNet),
    "mobilenet_v2": MobileNetV2,
    "convnext": ConvNeXt,
    "convnext_tiny": ConvNeXt,
    "vit": ViT,
    "vit_s16": functools.partial(ViT, width=384, heads=6),
    "vit_b16": ViT,
}
"""Name -> builder: "fixup_resnet", "resnet", "convnext" and "vit" of any shape, their published
sizes ("fixup_resnet18", "vit_s16", ...), and "mobilenet_v2"."""


def options(name: str) -> tuple[str, ...]:
    """Names of the options that `make` takes for a model, sorted.

    Raises:
      ValueError: the model is not known; the message names the nearest and all known ones.

    >>> options("fixup_resnet18")
    ('block', 'head_init', 'remat', 'stage_sizes', 'stem', 'width')
    """
    model = _find(name)
    cls: Any = model.func if isinstance(model, functools.partial) else model
    fields = {field.name for field in dataclasses.fields(cls)}
    return tuple(sorted(fields - {"num_classes", "dtype", "name", "parent"}))


def make(name: str, *, num_classes: int, dtype: str = "float32", **kwargs: Any) -> nn.Module:
    """The model of a name.

    Args:
      name: a key of `MODELS`.
      num_classes: number of logits, at least 1.
      dtype: of the computation, "float32" or "bfloat16"; parameters and logits are float32.
      **kwargs: options of the model (`options` lists them), which override those that
        the name implies; e.g. `width=8, stage_sizes=(1, 1, 1), stem="small"`.

    Returns:
      A hashable module without parameters; equal arguments give equal modules.

    Raises:
      ValueError: an unknown name or option (names the nearest), or a value out of range.
      TypeError: stage_sizes is not a tuple.

    >>> make("fixup_resnet", num_classes=10, stage_sizes=(1, 1), stem="small").module_names
    ('stem', 'stage1_block1', 'stage2_block1', 'pooled', 'head')
    """
    known = options(name)
    for option in kwargs:
        if option not in known:
            raise ValueError(checks.unknown(f"option of model {name!r}", option, known))
    return _find(name)(num_classes=num_classes, dtype=dtype, **kwargs)


def _find(name: str) -> Callable[..., nn.Module]:
    if name not in MODELS:
        raise ValueError(checks.unknown("model", name, MODELS))
    return MODELS[name]
