"""Writes tests/golden/backbones.npz: python -m tests.helpers.make_backbones

With torch 2.14, torchvision 0.29 and timm 1.0. Weights are `fill` of the names that torchvision
and timm give them, images come from a seed; what is kept is the names and the logits.
"""

from pathlib import Path
from typing import Any

import numpy as np
import timm.models
import torch
import torchvision.models as theirs

from tests.helpers.torch_names import fill

FILE = Path(__file__).parents[1] / "golden" / "backbones.npz"
SIZES = {"vit": (32, 32), "vit_resized": (48, 24), "convnext": (40, 32), "mobilenet_v2": (64, 64)}


def images(height: int, width: int) -> np.ndarray:
    """Float32 [2, 3, height, width]."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, 3, height, width)).astype(np.float32)


def nets() -> dict[str, Any]:
    vit = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "num_classes": 5}
    blocks = theirs.convnext.CNBlockConfig
    timm_vit, timm_next = timm.models.VisionTransformer, timm.models.ConvNeXt
    return {
        "vit/torchvision": theirs.VisionTransformer(32, 8, 2, 2, 16, 64, num_classes=5),
        "vit/timm": timm_vit(img_size=32, **vit),
        "vit_resized/timm": timm_vit(img_size=32, dynamic_img_size=True, **vit),
        "convnext/torchvision": theirs.ConvNeXt(
            [blocks(8, 16, 2), blocks(16, 32, 1), blocks(32, 64, 1), blocks(64, None, 1)],
            num_classes=5,
        ),
        "convnext/timm": timm_next(depths=(2, 1, 1, 1), dims=(8, 16, 32, 64), num_classes=5),
        "mobilenet_v2/timm": timm.create_model("mobilenetv2_035", num_classes=5),
    }


def main() -> None:
    torch.manual_seed(0)
    found = {}
    for name, net in nets().items():
        state = net.state_dict()
        for key, value in state.items():
            if value.is_floating_point():
                filled = fill(key, tuple(value.shape), 0)
                value.copy_(torch.from_numpy(filled))
                if key.endswith("running_var"):
                    value.copy_(value.abs() + 0.5)
        size = SIZES[name.split("/")[0]]
        with torch.no_grad():
            found[f"{name}/logits"] = net.eval()(torch.from_numpy(images(*size))).numpy()
        found[f"{name}/names"] = np.array(sorted(state))
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main()
