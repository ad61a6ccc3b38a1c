"""Joining the processes of one run, where there are several."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping

import jax
from jax.experimental import multihost_utils

_COUNTS = {  # set by launchers for each process they start
    "slurm": "SLURM_STEP_NUM_TASKS",
    "openmpi": "OMPI_COMM_WORLD_SIZE",
}


_GONE = re.compile(r"Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|heartbeat|Connection (closed|reset)")
"""What jax says when another process has ended."""

_joined: list[str] = []
"""What has connected this process with others."""


class PeerError(ConnectionError):
    """Another process of a run has ended; all of them are to be started again."""


def detect(environ: Mapping[str, str]) -> str | None:
    """The launcher that started this process together with others; None if there is none.

    Args:
      environ: environment variables.

    Returns:
      "explicit" (JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID are set),
      "slurm", "openmpi", "tpu" (several TPU_WORKER_HOSTNAMES), "requested"
      (TLX_DISTRIBUTED=1: for places that only jax can detect), or None.

    Raises:
      ValueError: JAX_COORDINATOR_ADDRESS without the other two, naming what is missing.

    >>> detect({"SLURM_STEP_NUM_TASKS": "4"})
    'slurm'
    >>> detect({"SLURM_STEP_NUM_TASKS": "1"})
    """
    if "JAX_COORDINATOR_ADDRESS" in environ:
        missing = [n for n in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID") if n not in environ]
        if missing:
            raise ValueError(
                "expected JAX_NUM_PROCESSES and JAX_PROCESS_ID beside JAX_COORDINATOR_ADDRESS, "
                f"got no {' and '.join(missing)}; set all three for each process, or none"
            )
        return "explicit"
    for name, variable in _COUNTS.items():
        if environ.get(variable, "1") not in ("", "1"):
            return name
    if "," in environ.get("TPU_WORKER_HOSTNAMES", ""):
        return "tpu"
    return "requested" if environ.get("TLX_DISTRIBUTED", "0") == "1" else None


def initialize_if_cluster() -> str | None:
    """What connected this process with the others, if any; call once, before any computation.

    Returns:
      What was detected (see `detect`); None, and nothing was done, on a single machine.

    Raises:
      ValueError: as `detect`.
      RuntimeError: from jax, if a computation was run before.
    """
    found = detect(os.environ)
    if found == "explicit":
        jax.distributed.initialize(
            os.environ["JAX_COORDINATOR_ADDRESS"],
            int(os.environ["JAX_NUM_PROCESSES"]),
            int(os.environ["JAX_PROCESS_ID"]),
            cluster_detection_method="deactivate",
        )
    elif found:
        jax.distributed.initialize()
    _joined.extend(filter(None, [found]))
    return found


def leave(status: int, said: str = "") -> None:
    """Ends this process, if it is one of several; to be called where it has failed.

    At the usual end jax waits for all others, minutes long if one of them is dead or waits for
    this one. When this one ends, so do they.

    Args:
      status: its exit status.
      said: last, on standard error.
    """
    if _joined:
        sys.stdout.flush()
        print(said, end="", file=sys.stderr, flush=True)
        os._exit(status)


@contextlib.contextmanager
def peers() -> Iterator[None]:
    """What jax says when another process is gone is raised as a `PeerError` within this context.

    Where the first process is gone, or this one is in an exchange that does not see the end of
    another (a sum, of gloo), jax ends it itself, by SIGABRT after 100 s, with words of its own.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_shared() or not _GONE.search(str(error)):
            raise
        said = str(error).splitlines()[0]
        raise PeerError(
            "expected all processes of the run to go on, but one has ended, or cannot be reached "
            f"({said}); start all of them again: they go on from the last checkpoint"
        ) from error


def is_shared() -> bool:
    """Whether several processes train each run together."""
    return jax.process_count() > 1


def is_primary() -> bool:
    """Whether this process writes the files of a run."""
    return jax.process_index() == 0


def wait_for_all(where: str) -> None:
    """Blocks until every process has reached this place; not at all with one process.

    Args:
      where: a name for the place, the same in all processes.
    """
    if is_shared():
        multihost_utils.sync_global_devices(where)


def is_preempted(step: int) -> bool:
    """Whether all processes stop after this step, since one of them was sent SIGTERM.

    Args:
      step: the same in all processes, which all ask after each step; it only rises.
    """
    return multihost_utils.reached_preemption_sync_point(step)
