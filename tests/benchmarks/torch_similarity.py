"""The PyTorch packages for CKA on our nets with our weights, and small nets on which they fail.

`pytorch-cka` (imported as `cka`) and `torch_cka` both compute the debiased minibatch CKA from
the outputs that forward hooks catch. Neither centres features before the Gram matrix, and both
weigh every batch alike, however many examples it has.
"""

import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from tests.benchmarks import models as model_benchmarks
from tests.helpers import torch_names
from tlx.core import tree

Call = Callable[[], np.ndarray]


class Batches:
    """Batches in memory, as little work as a loader can have; `dataset` is what torch_cka names.

    No list: pytorch-cka would take it for a list of loaders.
    """

    dataset = "arrays"

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches

    def __iter__(self):
        return ([batch] for batch in self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def pytorch_cka(torch: Any, nets: Sequence[Any], loader: Batches, layers: Sequence[str]) -> Call:
    from cka import compute_cka

    device = _device(torch)

    def call() -> np.ndarray:
        (found,) = compute_cka(*nets, loader, layers=layers, device=device, progress=False)
        return found.cpu().numpy()

    return call


def torch_cka(torch: Any, nets: Sequence[Any], loader: Batches, layers: Sequence[str]) -> Call:
    from torch_cka import CKA, cka

    cka.tqdm = lambda batches, **_: batches  # no progress bar is timed
    # made once: its hooks are never removed
    compared = CKA(*nets, "a", "b", list(layers), list(layers), device=_device(torch))

    def call() -> np.ndarray:
        with torch.inference_mode():
            compared.compare(loader, loader)
        return compared.export()["CKA"].cpu().numpy()

    return call


PACKAGES = {"pytorch-cka": pytorch_cka, "torch_cka": torch_cka}


def version(package: str) -> str:
    return f"{package} {metadata.version(package)}"


def fastest(torch: Any, package: str, setting: Any) -> tuple[Call, str]:
    """A package on a setting's models and images, in the memory format that it is faster in."""
    torch.set_num_threads(model_benchmarks.THREADS)
    calls, seconds = {}, {}
    formats = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
    for name, memory_format in formats.items():
        calls[name] = on(torch, package, setting, memory_format=memory_format)
        calls[name]()
        start = time.perf_counter()
        calls[name]()
        seconds[name] = time.perf_counter() - start
    best = min(seconds, key=seconds.__getitem__)
    return calls[best], best


def in_float64(torch: Any, package: str, setting: Any) -> np.ndarray:
    """What a package gives where all of its arithmetic is in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        return on(torch, package, setting, dtype=torch.float64)()
    finally:
        torch.set_default_dtype(torch.float32)


def on(torch: Any, package: str, setting: Any, **to: Any) -> Call:
    """A package on a setting's models and images, both moved to a dtype or memory format."""
    to["device"] = _device(torch)
    nets = [twin(torch, setting.module, params).to(**to) for params in (setting.a, setting.b)]
    batches = _nchw(torch, setting.images).to(**to).split(setting.batch)
    return PACKAGES[package](torch, nets, Batches(batches), list(setting.paths))


def twin(torch: Any, module: Any, variables: Any) -> Any:
    """The net of a Fixup ResNet in PyTorch, with our weights."""
    channels = np.shape(variables["params"]["stem"]["conv"]["kernel"])[2]
    net = model_benchmarks._torch_net(torch, module, channels)
    leaves = tree.named_leaves(variables["params"])
    ours = {name: np.asarray(leaves[torch_names.ours(name)]) for name in net.state_dict()}
    net.load_state_dict(
        {
            name: torch.from_numpy(torch_names.to_layout(v, torch=True).copy())
            for name, v in ours.items()
        }
    )
    return net.eval()


def logits(torch: Any, setting: Any) -> np.ndarray:
    """Those of model a for the first batch."""
    with torch.inference_mode():
        return twin(torch, setting.module, setting.a)(
            _nchw(torch, setting.images[: setting.batch])
        ).numpy()


def labels_in_order(torch: Any, setting: Any) -> bool:
    """Whether torch_cka's labels are those of its rows.

    It lists the labels as `named_modules` does, a block before its convolutions, and fills the
    rows as the layers end, a block after them.
    """
    from torch_cka import CKA

    nets = [twin(torch, setting.module, setting.a) for _ in range(2)]
    compared = CKA(*nets, "a", "b", list(setting.paths), list(setting.paths), device="cpu")
    with torch.inference_mode():
        nets[0](torch.zeros(1, 3, 32, 32))
    return compared.model1_info["Layers"] == list(compared.model1_features)


def affine(torch: Any, layers: Sequence[Any], inputs: np.ndarray, batch: int, then: str) -> dict:
    """What each package gives for two layers x·w + offset; the message where it raises.

    Args:
      torch: the module.
      layers: two pairs (w [D, out], offset [out]).
      inputs: float32 [N, D].
      batch: examples in a batch.
      then: "nothing", or "relu": a relu in place after the layer, whose output is not asked for.
    """
    batches = torch.from_numpy(inputs).to(_device(torch)).split(batch)
    found = {}
    for package, peer in PACKAGES.items():
        nets = [_affine(torch, *layer, then).to(_device(torch)) for layer in layers]
        try:
            value = float(peer(torch, nets, Batches(batches), ["0"])()[0, 0])
            found[package] = readable(value)
        except (AssertionError, ArithmeticError, ValueError) as error:
            found[package] = f"{type(error).__name__}: {error}"
    return found


def readable(value: float) -> float | str:
    """JSON has no NaN and no infinity."""
    return round(value, 6) if np.isfinite(value) else str(value)


def _affine(torch: Any, w: np.ndarray, offset: np.ndarray, then: str) -> Any:
    layer = torch.nn.Linear(*w.shape)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w.T.copy()))
        layer.bias.copy_(torch.from_numpy(offset))
    after = [torch.nn.ReLU(inplace=True)] if then == "relu" else []
    return torch.nn.Sequential(layer, *after)


def _nchw(torch: Any, nhwc: np.ndarray) -> Any:
    return torch.from_numpy(nhwc.transpose(0, 3, 1, 2).copy())


def _device(torch: Any) -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
