"""What XLA and the C library are told for this machine's processor: one place for all programs.

The command line calls `tune`, and with it the launch scripts and every process of a study.
Programs of one's own may call it, before JAX computes for the first time.
"""

import ctypes
import os
from importlib import metadata
from pathlib import Path

from tlx.core import public

__dir__ = public.names(__name__)

_NO_FUSIONS = "--xla_cpu_experimental_ynn_fusion_type="
_KNOWN = ("0.10.2",)
"""Versions of jaxlib that know that flag: XLA ends a process that names one it does not know."""

_MALLOC = {
    "MALLOC_MMAP_MAX_": (-4, 0),
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),
    "MALLOC_ARENA_MAX": (-8, 1),
}
"""glibc's variables: their number in malloc.h, and the value."""

_CPUINFO = Path("/proc/cpuinfo")


def tune() -> None:
    """Has this process, and those that it starts, told what `environment` says.

    After JAX has begun, the flags of XLA come too late and are without effect.
    """
    found = environment()
    os.environ |= found
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    for name, (number, value) in _MALLOC.items():
        if mallopt is not None and name in found:  # glibc has read the variables before
            mallopt(number, value)


def environment() -> dict[str, str]:
    """The environment variables that a process is to be started with, besides this one's.

    - Without AVX-512, XLA's fusions with YNNPACK are turned off: a training step of a small net
      takes 0.8 of the time, a forward pass of a Fixup ResNet-18 0.7 (two cores with AVX2, jax
      0.10.2). With AVX-512 they stay: without them a step takes 0.9 to 1.3 times as long. Where
      XLA_FLAGS has that flag, it stays as it is.
    - XLA takes a buffer for each call. From 32 MB on glibc maps and unmaps it each time: a training
      step of a small net takes 1.2 to 1.6 times as long, an exponential of 67 MB three times. So
      glibc keeps what it has, in one arena (further ones hold no block above 64 MB). Where its
      variables MALLOC_MMAP_MAX_, MALLOC_TRIM_THRESHOLD_ and MALLOC_ARENA_MAX are set, they stay.

    Only speed depends on them, and the rounding of sums.
    """
    found = {name: str(x) for name, (_, x) in _MALLOC.items() if name not in os.environ}
    flags = os.environ.get("XLA_FLAGS", "")
    ours = xla_flags(metadata.version("jaxlib"), cpu_features())
    if ours and ours not in flags:
        found["XLA_FLAGS"] = f"{flags} {ours}".strip()
    return found


def xla_flags(jaxlib: str, features: frozenset[str]) -> str:
    """The flags for a processor with these features, "" for none.

    Args:
      jaxlib: its version; those that may not know a flag are not given it.
      features: as `cpu_features` returns them.
    """
    is_slower_with_fusions = "avx2" in features and "avx512f" not in features
    return _NO_FUSIONS if is_slower_with_fusions and jaxlib in _KNOWN else ""


def cpu_features(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """What Linux says this processor has, as "avx2"; empty where it does not say."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((x.split(":")[1] for x in lines if x.startswith("flags")), "").split())
