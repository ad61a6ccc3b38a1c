"""What XLA counts against what the layers need, and what is known of devices."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.core import sharding
from tlx.train import costs, optim
from tlx.train.spec import OptimSpec
from tlx.train.state import make_state
from tlx.train.step import StepConfig, StepInputs, make_step

ROWS, SIZE, WIDTH, CLASSES = 8, 32, 64, 16


class Net(nn.Module):
    num_classes: int = CLASSES

    @nn.compact
    def __call__(self, inputs: Any, train: bool = False) -> Any:
        x = nn.Conv(WIDTH, (3, 3), use_bias=False, padding="VALID", name="stem")(inputs)
        return nn.Dense(self.num_classes, name="head")(x.reshape(len(x), -1))


def step_of(num_devices: int, accumulate: int = 1) -> tuple[StepConfig, Any, tuple[Any, ...]]:
    mesh = sharding.make_mesh(jax.devices()[:num_devices])
    spec = OptimSpec(rate=0.1)
    static = optim.static_of(spec)
    config = StepConfig(
        module=Net(), loss="softmax", mixup=0.0, optim=static, accumulate=accumulate
    )
    batch = {
        "inputs": np.zeros((ROWS, SIZE, SIZE, 3), np.float32),
        "labels": np.zeros(ROWS, np.int32),
        "mask": np.ones(ROWS, bool),
    }
    variables = Net().init(jax.random.key(0), batch["inputs"])
    state = make_state(variables, static, 0)
    numbers = StepInputs(np.float32(0.1), optim.hyper_of(spec))
    state, numbers = (sharding.replicate(tree, mesh) for tree in (state, numbers))
    return config, mesh, (state, sharding.shard_batch(batch, mesh), numbers)


@pytest.mark.parametrize(("num_devices", "accumulate"), [(1, 1), (2, 1), (1, 4)])
def test_operations_are_those_of_the_layers(num_devices: int, accumulate: int):
    config, mesh, arguments = step_of(num_devices, accumulate)
    found = costs.step_flops(config, mesh, *arguments)
    out = SIZE - 2
    stem = 2 * ROWS * out**2 * 9 * 3 * WIDTH
    head = 2 * ROWS * out**2 * WIDTH * CLASSES
    # forward, gradient of the kernel; and that of the input, which the first layer does not need
    wanted = 2 * stem + 3 * head
    assert wanted < found < 1.15 * wanted


def test_operations_are_about_those_of_the_compiled_step():
    config, mesh, arguments = step_of(1)
    compiled: Any = make_step(config, mesh)
    wanted = compiled.lower(*arguments).compile().cost_analysis()["flops"]
    assert costs.step_flops(config, mesh, *arguments) == pytest.approx(wanted, rel=0.1)


def test_operations_of_an_accelerator_are_counted_for_the_cpu(monkeypatch: pytest.MonkeyPatch):
    config, mesh, arguments = step_of(2)
    wanted = costs.step_flops(config, mesh, *arguments)
    from types import SimpleNamespace

    devices = np.array([SimpleNamespace(platform="gpu")] * 2)
    assert costs.step_flops(config, SimpleNamespace(devices=devices), *arguments) == wanted

    def none(**_: Any) -> None:
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "local_devices", none)
    assert costs.step_flops(config, SimpleNamespace(devices=devices), *arguments) is None


class Device:
    device_kind = "NVIDIA H200"

    def __init__(self, stats: dict[str, int] | None = None) -> None:
        self._stats = stats

    def memory_stats(self) -> dict[str, int] | None:
        return self._stats


def test_a_peak_that_is_not_published_is_none():
    device: Any = Device()
    assert costs.peak(device, "bfloat16") == 989.4e12
    assert costs.peak(device, "float32") == 494.7e12
    assert costs.peak(device, "float16") is None
    assert costs.peak(jax.devices()[0], "float32") is None
    with jax.default_matmul_precision("highest"):
        assert costs.peak(device, "float32") is None
        assert costs.peak(device, "bfloat16") == 989.4e12


def test_memory_is_that_of_the_fullest_device_or_of_the_process():
    full = Device({"bytes_in_use": 5, "peak_bytes_in_use": 9})
    fuller = Device({"bytes_in_use": 6, "peak_bytes_in_use": 8})
    devices: Any = [full, fuller]
    assert costs.memory(devices) == ("device", 6, 9)
    found = costs.memory(jax.devices())
    assert found.memory_of == "process"
    assert 1e8 < found.memory_bytes <= found.memory_peak_bytes
    assert costs.memory([*devices, Device()]).memory_of == "process"


def test_memory_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    monkeypatch.setattr(costs, "_STATUS", tmp_path / "none")
    found = costs.memory(jax.devices())
    assert found.memory_bytes is None
    assert found.memory_peak_bytes > 1e8


def test_compilation_is_counted_where_it_happens():
    before = costs.compile_seconds()
    jax.jit(lambda x: jnp.sin(x) + 1)(jnp.ones(3))
    assert costs.compile_seconds() > before
