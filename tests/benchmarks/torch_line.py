"""A line between two models as the paper's authors evaluate it, written for PyTorch.

For each point the interpolated state dict is loaded into the net, and the net evaluated on a pass
over the loader, which decodes the images anew.
"""

import numpy as np

from tests.benchmarks import landscape
from tests.benchmarks import models as model_benchmarks
from tests.helpers import torch_names
from tlx.core import tree


class Line:
    """The line between a setting's two models, with PyTorch's nets and loaders."""

    def __init__(self, torch, setting, encoded) -> None:
        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.device == "cpu":
            torch.set_num_threads(model_benchmarks.THREADS)
        net = model_benchmarks._torch_net(torch, setting.module, 3)
        self.net = net.to(self.device, memory_format=torch.channels_last).eval()
        self.ends = [self._state(p) for p in (setting.a, setting.b)]
        self.labels = torch.from_numpy(setting.labels)
        self.encoded = encoded
        nchw = landscape.normalised(setting.pixels).transpose(0, 3, 1, 2).copy()
        self.arrays = torch.from_numpy(nchw)

    def _state(self, variables):
        leaves = tree.named_leaves(variables["params"])
        return {
            name: self.torch.from_numpy(
                torch_names.to_layout(np.asarray(leaves[torch_names.ours(name)]), torch=True).copy()
            ).to(self.device)
            for name in self.net.state_dict()
        }

    def losses(self, alphas, decode: bool):
        """The mean loss at each point, float64 [K]."""
        torch = self.torch
        data = (
            _Decoding(self) if decode else torch.utils.data.TensorDataset(self.arrays, self.labels)
        )
        loader = torch.utils.data.DataLoader(data, batch_size=landscape.BATCH)
        means = []
        for alpha in alphas.tolist():
            a, b = self.ends
            self.net.load_state_dict({n: (1 - alpha) * a[n] + alpha * b[n] for n in a})
            means.append(self._evaluate(loader))
        return np.array(means)

    def _evaluate(self, loader) -> float:
        torch, total = self.torch, 0.0
        with torch.inference_mode():
            for images, labels in loader:
                images = images.to(self.device, memory_format=torch.channels_last)
                loss = torch.nn.functional.cross_entropy(
                    self.net(images), labels.to(self.device), reduction="sum"
                )
                total += loss.item()
        return total / len(self.labels)


class _Decoding:
    """A map-style data set that decodes an image when it is asked for."""

    def __init__(self, line: Line) -> None:
        self.line = line

    def __len__(self) -> int:
        return len(self.line.encoded)

    def __getitem__(self, i: int):
        pixels = landscape.normalised(landscape.decoded(self.line.encoded[i]))
        image = self.line.torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        return image, self.line.labels[i]
