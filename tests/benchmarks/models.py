"""Our models on CPU against the same nets in PyTorch: `python -m tests.benchmarks.models`.

Prints a JSON line a benchmark; a ratio is our time over PyTorch's, of interleaved repeats in one
run. Both have the same weights, and the numbers are compared first. Both may use two threads, or
one where the process is held to one core (`taskset -c 0 python -m ...`); PyTorch runs
channels-last, in inference mode where it only predicts, with its fused optimizer where it trains.

`ratio` compares the fastest repeats. Where other work shares the cores, PyTorch's threads wait for
each other far longer than ours: `ratio_of_medians` then flatters us.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.helpers import torch_names
from tlx import models
from tlx.core import processor, tree

THREADS = min(2, len(os.sched_getaffinity(0)))
BATCH = 64
RATE, MOMENTUM, DECAY = 0.01, 0.9, 1e-4
SMALL_NETS = {"1 block a stage": (1, 1, 1), "2 blocks a stage": (2, 2, 2)}


def run(emit: Callable[..., None], repeats: int = 30) -> None:
    """Measures both benchmarks; `emit(benchmark=, ratio=, aim=, **facts)` takes each result."""
    processor.tune()  # as the command line does
    torch = _torch()
    torch.set_num_threads(THREADS)
    emit(benchmark="resnet18_forward_over_torch", aim=1.0, **_forward(torch, repeats))
    for net, stage_sizes in SMALL_NETS.items():
        facts = _train_step(torch, stage_sizes, repeats)
        emit(benchmark="small_train_step_over_torch", aim=1.0, net=net, **facts)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "this benchmark compares with PyTorch; install it with: pip install '.[benchmark]'"
        ) from error
    return torch


def _forward(torch: Any, repeats: int) -> dict[str, Any]:
    """Fixup ResNet-18, ImageNet stem, 10 classes, 64 images of 32x32x3."""
    model = models.make("fixup_resnet18", num_classes=10)
    x = np.random.default_rng(0).standard_normal((BATCH, 32, 32, 3)).astype(np.float32)
    params, net = _twins(torch, model, x)
    apply = jax.jit(model.apply)
    inputs, torch_inputs = jnp.asarray(x), _channels_last(torch, x)

    def ours() -> np.ndarray:
        return np.asarray(apply({"params": params}, inputs))

    def theirs() -> np.ndarray:
        with torch.inference_mode():
            return net(torch_inputs).numpy()

    difference = float(np.abs(ours() - theirs()).max())
    assert difference < 1e-4, f"the two nets differ by {difference} in their logits"
    return {**_race(ours, theirs, repeats), "largest_difference": difference}


def _train_step(torch: Any, stage_sizes: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Small Fixup ResNet, width 8, 64 images of 32x32x1: loss, gradients, SGD with momentum."""
    model = models.make(
        "fixup_resnet", num_classes=10, width=8, stage_sizes=stage_sizes, stem="small"
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, 32, 32, 1)).astype(np.float32)
    labels = rng.integers(0, 10, BATCH)
    params, net = _twins(torch, model, x)
    ours = _our_steps(model, params, jnp.asarray(x), jnp.asarray(labels, jnp.int32))
    theirs = _torch_steps(torch, net, _channels_last(torch, x), torch.from_numpy(labels))
    pairs = [(ours(), theirs()) for _ in range(5)]
    difference = max(abs(a - b) for a, b in pairs)
    assert difference < 1e-4, f"losses of the first steps differ by {difference}: {pairs}"
    return {**_race(ours, theirs, repeats), "largest_difference": difference}


def _our_steps(
    model: Any, params: Any, inputs: jax.Array, labels: jax.Array
) -> Callable[[], float]:
    def loss(params: Any) -> jax.Array:
        logp = jax.nn.log_softmax(model.apply({"params": params}, inputs))
        return -jnp.mean(jnp.take_along_axis(logp, labels[:, None], axis=1))

    def step(params: Any, velocity: Any) -> tuple[jax.Array, Any, Any]:
        value, grads = jax.value_and_grad(loss)(params)
        velocity = jax.tree.map(
            lambda v, g, p: MOMENTUM * v + g + DECAY * p, velocity, grads, params
        )
        return value, jax.tree.map(lambda p, v: p - RATE * v, params, velocity), velocity

    jitted = jax.jit(step, donate_argnums=(0, 1))
    state = [params, jax.tree.map(jnp.zeros_like, params)]

    def run_one() -> float:
        value, *state[:] = jitted(*state)
        return float(value)

    return run_one


def _torch_steps(torch: Any, net: Any, inputs: Any, labels: Any) -> Callable[[], float]:
    optimizer = torch.optim.SGD(
        net.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, fused=True
    )

    def run_one() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(inputs), labels)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return run_one


def _race(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Times in turn; each timed call follows an untimed one of the same kind, since the idle
    threads of one library still spin while the other starts.
    """
    seconds: dict[str, list[float]] = {"ours": [], "torch": []}
    for _ in range(repeats):
        for name, function in (("ours", ours), ("torch", theirs)):
            function()
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "ratio": round(min(seconds["ours"]) / min(seconds["torch"]), 3),
        "ratio_of_medians": round(medians["ours"] / medians["torch"], 3),
        **{f"{name}_ms": round(1e3 * min(values), 2) for name, values in seconds.items()},
        "repeats": repeats,
        "threads": THREADS,
    }


def _channels_last(torch: Any, nhwc: np.ndarray) -> Any:
    nchw = torch.from_numpy(nhwc.transpose(0, 3, 1, 2).copy())
    return nchw.to(memory_format=torch.channels_last)


def _twins(torch: Any, model: Any, x: np.ndarray) -> tuple[Any, Any]:
    """Our parameters, filled by PyTorch's names, and the PyTorch net that has the same."""
    net = _torch_net(torch, model, x.shape[-1]).to(memory_format=torch.channels_last)
    values = {
        name: torch_names.fill(name, tuple(value.shape), seed=0)
        for name, value in net.state_dict().items()
    }
    net.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
    leaves = {torch_names.ours(n): torch_names.to_layout(v, torch=False) for n, v in values.items()}
    params = jax.tree.map(jnp.array, tree.nested(leaves))
    like = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    assert sorted(tree.names(params)) == sorted(tree.names(like))
    return params, net


def _torch_net(torch: Any, model: Any, channels: int) -> Any:
    """The same net, basic blocks only, in PyTorch; its names are the reference's."""
    nn, relu = torch.nn, torch.nn.functional.relu

    def conv(inputs: int, outputs: int, size: int, stride: int) -> Any:
        return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)

    def scalar(module: Any, *names: str) -> None:
        for name in names:
            setattr(module, name, nn.Parameter(torch.zeros(1)))

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            scalar(self, "bias1a", "bias1b", "bias2a", "bias2b", "scale")
            self.conv1, self.conv2 = conv(inputs, outputs, 3, stride), conv(outputs, outputs, 3, 1)
            same = stride == 1 and inputs == outputs
            self.downsample = None if same else conv(inputs, outputs, 1, stride)

        def forward(self, x: Any) -> Any:
            biased = x + self.bias1a
            out = relu(self.conv1(biased) + self.bias1b)
            out = self.conv2(out + self.bias2a) * self.scale + self.bias2b
            return relu(out + (x if self.downsample is None else self.downsample(biased)))

    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            scalar(self, "bias1", "bias2")
            big = model.stem == "imagenet"
            self.conv1 = conv(channels, model.width, *((7, 2) if big else (3, 1)))
            self.pool = nn.MaxPool2d(3, 2, 1) if big else nn.Identity()
            width = model.width
            for stage, size in enumerate(model.stage_sizes):
                blocks = []
                for block in range(size):
                    outputs = model.width * 2**stage
                    blocks.append(Block(width, outputs, 2 if stage > 0 and block == 0 else 1))
                    width = outputs
                setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            self.fc = nn.Linear(width, model.num_classes)

        def forward(self, x: Any) -> Any:
            x = self.pool(relu(self.conv1(x) + self.bias1))
            for stage in range(len(model.stage_sizes)):
                x = getattr(self, f"layer{stage + 1}")(x)
            return self.fc(x.mean((2, 3)) + self.bias2)

    return Net()


if __name__ == "__main__":
    run(lambda **line: print(json.dumps(line), flush=True))
