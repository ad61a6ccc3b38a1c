"""How many processes a study has room for on this machine, and what they share."""

import os
from collections.abc import Mapping
from pathlib import Path

import jax

from tlx.core import cache, processor
from tlx.train import distributed

MOST_WORKERS = 16
"""However many cores there are; a bound, not a measured optimum."""

BYTES_PER_WORKER = 2 * 2**30
"""Memory that a process is counted with."""

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")

ONE_THREAD: Mapping[str, str] = dict.fromkeys(
    ("NPROC", "PJRT_NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)
"""What has XLA and BLAS compute in one thread.

How sums are split between threads decides their rounding: with one thread the numbers of a study do
not depend on the number of cores. And two processes of one thread each are faster than of two: a
study of nine runs took 204 s against 230 on two cores, 279 in one process.
"""


def environment() -> dict[str, str]:
    """What the processes of a study have besides the environment of the one that starts them.

    What the processor asks for, `ONE_THREAD`, and a place where JAX keeps what it has compiled, so
    that no process compiles what another one has, today or before (`tlx.core.cache.programs`).
    """
    return processor.environment() | dict(ONE_THREAD) | cache.programs()


def workers() -> int | None:
    """The number of processes that train and answer side by side; None: this one alone.

    None where there is an accelerator, which is one process's, and where several processes train
    each run together. Else as many as cores, or as memory
    that is available has room for at `BYTES_PER_WORKER` each, at most `MOST_WORKERS`.
    """
    if jax.default_backend() != "cpu" or distributed.is_shared():
        return None
    found = [cores(), MOST_WORKERS]
    available = available_bytes()
    if available is not None:
        found.append(available // BYTES_PER_WORKER)
    return max(1, min(found))


def cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """The memory that is free or can be freed, within the container's limit; None if not known.

    Args:
      meminfo: the system's file.
      cgroup: the folder of this process's control group (version 2).
    """
    found = []
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        if "MemAvailable" in lines:
            found.append(1024 * int(lines["MemAvailable"].split()[0]))
    most, used = (cgroup / name for name in ("memory.max", "memory.current"))
    if most.exists() and used.exists() and most.read_text().strip() != "max":
        found.append(int(most.read_text()) - int(used.read_text()))
    return max(0, min(found)) if found else None
