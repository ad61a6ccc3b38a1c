"""Reading checkpoints."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from tlx.checkpoints import packing, provenance, select
from tlx.core import checks, tree
from tlx.core.types import Params

META_FILE = "metadata"


class DamagedError(ValueError):
    """A checkpoint that is damaged; the message says which, what part of it, and what to do.

    Args:
      what: which, and what of it.
      remedy: what to do.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what


def step_path(workdir: str | Path, step: int) -> Path:
    """The folder of a step's checkpoint, absolute."""
    return (Path(workdir) / select.FOLDER / str(step)).absolute()


def resolve(workdir: str | Path, step: int | str = "last") -> int:
    """The number of the step that is meant.

    Args:
      workdir: of the run.
      step: a number; "last", the newest; or "best", the one with the highest test accuracy
        (the earliest of equals).

    Raises:
      ValueError: no such step, naming those there are; or no step with a test accuracy.
    """
    there = select.steps(workdir)
    if not there:
        raise ValueError(
            "expected the workdir of a run that was started, but there is no checkpoint in "
            f"{Path(workdir) / select.FOLDER}; train it first"
        )
    if step == "last":
        return there[-1]
    if step == "best":
        best = select.best_of({n: origin(workdir, n)["score"] for n in there})
        if best is None:
            raise ValueError(
                f"expected a checkpoint with a test accuracy in {workdir}, got none; name a step"
            )
        return best
    if isinstance(step, str):
        raise ValueError(checks.unknown("step", step, select.NAMES))
    if step not in there:
        listed = ", ".join(map(str, there))
        raise ValueError(
            f"expected a checkpoint of step {step} in {workdir}, got {listed}; "
            "choose one of these, or train with a checkpoint rule that keeps it"
        )
    return step


def origin(workdir: str | Path, step: int | str = "last") -> provenance.Origin:
    """Where the weights of a step come from; see `tlx.checkpoints.provenance`.

    Raises:
      ValueError: as `resolve`.
      DamagedError: it is not as it was saved.
    """
    number = step if isinstance(step, int) else resolve(workdir, step)
    return _meta(workdir, number)["origin"]


def restore(
    workdir: str | Path, step: int | str = "last", *, as_numpy: bool = False
) -> dict[str, Params]:
    """The weights of a step: {"params": …} and, where the model has it, "batch_stats".

    Args:
      workdir: of the run.
      step: see `resolve`.
      as_numpy: give numpy arrays; otherwise jax arrays on the default device.

    Returns:
      Nested dicts of arrays. Needs neither the model nor the devices it was trained on.

    Raises:
      ValueError: as `resolve`.
      DamagedError: it is not as it was saved.
    """
    number = resolve(workdir, step)
    variables = tree.nested(_read(workdir, number, "weights"))
    return variables if as_numpy else jax.tree.map(jnp.asarray, variables)


def restore_resume(workdir: str | Path, step: int, like: Any) -> Any:
    """The state that a run needs, besides its weights, to continue from a step.

    Args:
      workdir: of the run.
      step: one of the newest two (older ones have dropped that state).
      like: pytree of arrays or `jax.ShapeDtypeStruct` with the structure wanted.

    Returns:
      A pytree like `like` of numpy arrays.

    Raises:
      ValueError: the leaves differ, each named.
      DamagedError: it is damaged, or lacks that state.
    """
    leaves = _read(workdir, step, "resume")
    wanted = tree.named_leaves(like)
    tree.same_structure(leaves, wanted, names=(f"the checkpoint of step {step}", "this run"))
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in wanted])


def _meta(workdir: str | Path, step: int) -> dict[str, Any]:
    path = step_path(workdir, step) / "meta" / META_FILE
    try:
        meta: dict[str, Any] = json.loads(path.read_text())
        if packing.signed(meta) != meta:
            raise ValueError("it is not what was saved")
    except (OSError, ValueError, AttributeError) as error:
        raise _damaged(workdir, step, "meta", error) from error
    return meta


def _read(workdir: str | Path, step: int, item: str) -> dict[str, np.ndarray]:
    meta = _meta(workdir, step)
    me = jax.process_index()  # each process reads by itself, whether or not the others do
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"tlx{me}"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    try:
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
            arrays = reader.restore(step_path(workdir, step) / item)
        leaves = packing.unpack(arrays, meta["layout"][item])
        if packing.digest(leaves) != meta["digests"][item]:
            raise ValueError("its numbers are not those that were saved")
    except MemoryError:
        raise
    except Exception as error:  # what is raised for damaged files can be anything
        raise _damaged(workdir, step, item, error) from error
    return leaves


def _damaged(workdir: str | Path, step: int, item: str, error: Exception) -> DamagedError:
    others = ", ".join(str(n) for n in select.steps(workdir) if n != step) or "none"
    why = f"{type(error).__name__}: {error}".splitlines()[0][:160]
    return DamagedError(
        f"the checkpoint {step_path(workdir, step)} is damaged: its {item} cannot be read ({why})",
        f"name another step (there are {others}), or delete {workdir} and train anew",
    )
