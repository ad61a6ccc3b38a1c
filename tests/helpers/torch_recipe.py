"""The paper's DomainNet recipe as a plain PyTorch loop, for three steps of a small net.

`python -m tests.helpers.torch_recipe` writes tests/golden/domainnet_recipe.npz (torch 2.13).
Weights are `tests.helpers.torch_names.fill` of the authors' names; all is float64.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.torch_names import fill

GOLDEN = Path(__file__).parents[1] / "golden" / "domainnet_recipe.npz"
WIDTH, STAGES, CLASSES, SIZE, BATCH, STEPS = 4, (1, 1), 5, 32, 6, 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RATE, MOMENTUM, DECAY, BLOCK, SEED = 0.0125, 0.9, 1e-4, 8, 1235


def images() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [steps, batch, size, size, 3] and classes [steps, batch]."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (STEPS, BATCH, SIZE, SIZE, 3)).astype(np.uint8)
    return pixels, rng.integers(0, CLASSES, (STEPS, BATCH))


def shapes() -> dict[str, tuple[int, ...]]:
    """The authors' names and shapes of a bottleneck Fixup ResNet of this size."""
    found: dict[str, tuple[int, ...]] = {"conv1.weight": (WIDTH, 3, 7, 7), "bias1": (1,)}
    before = WIDTH
    for stage in range(len(STAGES)):
        inner = WIDTH * 2**stage
        name = f"layer{stage + 1}.0"
        found |= {
            f"{name}.conv1.weight": (inner, before, 1, 1),
            f"{name}.conv2.weight": (inner, inner, 3, 3),
            f"{name}.conv3.weight": (4 * inner, inner, 1, 1),
            f"{name}.downsample.weight": (4 * inner, before, 1, 1),
        }
        scalars = ("bias1a", "bias1b", "bias2a", "bias2b", "bias3a", "bias3b", "scale")
        found |= {f"{name}.{scalar}": (1,) for scalar in scalars}
        before = 4 * inner
    return found | {"bias2": (1,), "fc.weight": (CLASSES, before), "fc.bias": (CLASSES,)}


def forward(p: dict[str, Any], x: Any) -> Any:
    """Logits of x [B, 3, H, W]."""
    from torch.nn import functional as F

    x = F.max_pool2d(
        F.relu(F.conv2d(x, p["conv1.weight"], stride=2, padding=3) + p["bias1"]), 3, 2, 1
    )
    for stage in range(len(STAGES)):

        def own(leaf: str, name: str = f"layer{stage + 1}.0.") -> Any:
            return p[name + leaf]

        stride = 1 if stage == 0 else 2
        biased = x + own("bias1a")
        out = F.relu(F.conv2d(biased, own("conv1.weight")) + own("bias1b"))
        out = F.conv2d(out + own("bias2a"), own("conv2.weight"), stride=stride, padding=1)
        out = F.conv2d(F.relu(out + own("bias2b")) + own("bias3a"), own("conv3.weight"))
        out = out * own("scale") + own("bias3b")
        x = F.relu(out + F.conv2d(biased, own("downsample.weight"), stride=stride))
    return F.linear(x.mean((2, 3)) + p["bias2"], p["fc.weight"], p["fc.bias"])


def shuffled(x: np.ndarray) -> np.ndarray:
    """Blocks of [B, 3, S, S] in the authors' order."""
    grid = SIZE // BLOCK
    order = np.random.RandomState(SEED).permutation(grid * grid)
    out = np.empty_like(x)
    for k, source in enumerate(order):
        (i, j), (u, v) = divmod(k, grid), divmod(int(source), grid)
        out[:, :, i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK] = x[
            :, :, u * BLOCK : (u + 1) * BLOCK, v * BLOCK : (v + 1) * BLOCK
        ]
    return out


def loop(weights: np.ndarray, partners: np.ndarray) -> dict[str, np.ndarray]:
    """Losses before each step, and every tensor after the last.

    Args:
      weights: mixup's lambda of each step.
      partners: int [steps, batch], with whom each row is mixed.
    """
    import torch
    from torch.nn import functional as F

    params = {
        name: torch.from_numpy(fill(name, shape, 0).astype(np.float64)).requires_grad_()
        for name, shape in shapes().items()
    }
    slow = [p for name, p in params.items() if "bias" in name or "scale" in name]
    fast = [p for name, p in params.items() if "bias" not in name and "scale" not in name]
    groups = [{"params": fast}, {"params": slow, "lr": RATE / 10}]
    optimizer = torch.optim.SGD(groups, lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    losses = []
    for pixels, labels, weight, partner in zip(*images(), weights, partners, strict=True):
        x = (pixels.transpose(0, 3, 1, 2) / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(
            STD, (3, 1, 1)
        )
        x, y = torch.from_numpy(shuffled(x)), torch.from_numpy(labels)
        mixed = weight * x + (1 - weight) * x[partner]
        logits = forward(params, mixed)
        own, other = F.cross_entropy(logits, y), F.cross_entropy(logits, y[partner])
        loss = weight * own + (1 - weight) * other
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    after = {f"after/{name}": p.detach().numpy() for name, p in params.items()}
    return {"losses": np.array(losses), **after}


def main() -> None:
    from tests.train.test_domainnet_recipe import draws

    weights, partners = draws()
    np.savez_compressed(GOLDEN, weights=weights, partners=partners, **loop(weights, partners))


if __name__ == "__main__":
    main()
