"""What a step computes, what the device could, and the memory in use."""

import dataclasses
import functools
import resource
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tlx.core import sharding
from tlx.train.step import StepConfig, make_step

_A100 = {"bfloat16": 312e12, "float32": 156e12}
_H100 = {"bfloat16": 989.4e12, "float32": 494.7e12}

PEAKS: dict[str, dict[str, float]] = {
    # NVIDIA A100 Tensor Core GPU, data sheet, 2021
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100 80GB PCIe": _A100,
    # NVIDIA H100 Tensor Core GPU Architecture, 2022, and data sheet, 2023
    "NVIDIA H100 80GB HBM3": _H100,
    "NVIDIA H100 PCIe": {"bfloat16": 756e12, "float32": 378e12},
    # NVIDIA H200 Tensor Core GPU, data sheet, 2024
    "NVIDIA H200": _H100,
    # Google Cloud TPU documentation, system architecture, 2025; float32 is one pass of bfloat16
    "TPU v4": {"bfloat16": 275e12, "float32": 275e12},
    "TPU v5 lite": {"bfloat16": 197e12, "float32": 197e12},
    "TPU v5": {"bfloat16": 459e12, "float32": 459e12},
    "TPU v5p": {"bfloat16": 459e12, "float32": 459e12},
    "TPU v6 lite": {"bfloat16": 918e12, "float32": 918e12},
}
"""Floating-point operations a second, by `device_kind` and the model's dtype, as published.

Dense matrix products, without sparsity, at the precision that JAX has them at unless told
otherwise: in float32 TF32 on these GPUs, bfloat16 on TPUs.
"""

COMPILING = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
"""JAX's events of compilation; the last one holds the time to read what was compiled before."""

_STATUS = Path("/proc/self/status")


def peak(device: jax.Device, dtype: str) -> float | None:
    """The device's published peak in floating-point operations a second; None if it is not known.

    Nor is it known in float32 where `jax_default_matmul_precision` asks for another precision.
    """
    asked: str | None = jax.config.values["jax_default_matmul_precision"]
    if dtype == "float32" and asked not in (None, "default"):
        return None
    return PEAKS.get(device.device_kind, {}).get(dtype)


def step_flops(config: StepConfig, mesh: jax.sharding.Mesh, *arguments: Any) -> float | None:
    """The floating-point operations of one step on all devices, as XLA counts them.

    In the program before optimisation, so that they are the model's: 2 for each multiplication and
    addition of products and convolutions, forward and backward, 1 for other operations. Blocks
    that are computed again for their gradient (`remat`) count again. The parts of an accumulated
    batch are counted as one batch, since XLA counts a loop's body once; so a loop in a model counts
    once.

    Args:
      config: of the step.
      mesh: its devices.
      arguments: of the step, as it was called.

    Returns:
      None where XLA does not count: a process without its CPU backend (JAX_PLATFORMS=cuda).

    Cost: some 50 ms after the step was called, once for equal arguments; on an accelerator, whose
    compiler counts nothing before compiling, the step is traced and lowered anew for the CPU.
    """
    whole = dataclasses.replace(config, accumulate=1)
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    leaves, structure = jax.tree.flatten(arguments)
    try:
        mesh = mesh if is_cpu else sharding.make_mesh(jax.local_devices(backend="cpu")[:1])
        return _flops(whole, mesh, structure, tuple(_shape(leaf, is_cpu) for leaf in leaves))
    except RuntimeError:
        return None


def _shape(leaf: Any, with_sharding: bool) -> jax.ShapeDtypeStruct:
    """Of an argument; with its sharding the step is found as it was traced and lowered."""
    sharding = getattr(leaf, "sharding", None) if with_sharding else None
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


@functools.lru_cache(maxsize=64)
def _flops(
    config: StepConfig, mesh: jax.sharding.Mesh, structure: Any, shapes: tuple[Any, ...]
) -> float | None:
    step: Any = make_step(config, mesh)
    costs = step.lower(*jax.tree.unflatten(structure, shapes)).cost_analysis() or {}
    found: float | None = costs.get("flops")
    return found


class _Compiled(threading.local):
    """What a thread has spent, as far as JAX was listened to."""

    seconds = 0.0


_COMPILED = _Compiled()


def compile_seconds() -> float:
    """Seconds of tracing, lowering and compiling in this thread, since the first call of all.

    By JAX's own events (`COMPILING`).
    """
    _listen()
    return _COMPILED.seconds


@functools.cache
def _listen() -> None:
    def add(event: str, duration_secs: float, **_: Any) -> None:
        if event in COMPILING:
            _COMPILED.seconds += duration_secs

    jax.monitoring.register_event_duration_secs_listener(add)


class Memory(NamedTuple):
    """Bytes in use.

    Attributes:
      memory_of: "device", or "process" where the device is the processor, or does not say.
      memory_bytes: in use now, of a device that of the fullest; of a process what is resident. None
        where the system does not say.
      memory_peak_bytes: the most since the process began.
    """

    memory_of: str
    memory_bytes: int | None
    memory_peak_bytes: int


def memory(devices: Sequence[jax.Device]) -> Memory:
    """The memory in use, of devices of this process."""
    stats = [device.memory_stats() or {} for device in devices]
    if stats and all({"bytes_in_use", "peak_bytes_in_use"} <= each.keys() for each in stats):
        now, most = (max(s[n] for s in stats) for n in ("bytes_in_use", "peak_bytes_in_use"))
        return Memory("device", now, most)
    if _STATUS.exists():
        status = dict(text.split(":", 1) for text in _STATUS.read_text().splitlines())
        found = [int(status[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")]
        return Memory("process", *found)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Memory("process", None, most if sys.platform == "darwin" else most * 1024)
