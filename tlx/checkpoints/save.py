"""Writing checkpoints, in the background, by orbax.

A checkpoint is the folder `checkpoints/STEP` with the items "weights" (parameters and batch
statistics), "meta" (origin, layout and digests, JSON) and, in the newest two, "resume" (what the
run needs to continue), so that one is left if the other is damaged. It appears completely or not
at all.
"""

import atexit
import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import PreservationContext, PreservationPolicy

from tlx.checkpoints import packing, provenance, select
from tlx.checkpoints.restore import DamagedError, step_path
from tlx.checkpoints.restore import origin as read_origin
from tlx.core import files
from tlx.core.types import Params

DROPPED = "dropped"
"""The folder to which steps are moved before they are deleted."""

NUM_RESUMABLE = 2
"""The number of newest steps from which a run can continue."""


_SYSTEM_ERROR = re.compile(r"os_error_code='(\d+)'")
"""How tensorstore, below orbax, says in a ValueError that a file could not be written."""


class NonFiniteError(FloatingPointError):
    """Weights or optimiser state hold NaN or infinity, so they are not saved."""


class _Keep(PreservationPolicy):
    """Keeps the scheduled steps, the newest two, and the best by the scores seen so far."""

    def __init__(self, scheduled: frozenset[int], scores: dict[int, float | None] | None) -> None:
        self._scheduled = scheduled
        self._scores = scores

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: PreservationContext
    ) -> Sequence[bool]:
        """True for each checkpoint that stays."""
        there = [info.step for info in checkpoints]
        wanted = _wanted(there, self._scheduled, self._scores, newest=NUM_RESUMABLE)
        return [step in wanted for step in there]


def _wanted(
    there: Sequence[int],
    scheduled: frozenset[int],
    scores: Mapping[int, float | None] | None,
    *,
    newest: int,
) -> set[int | None]:
    best = None if scores is None else select.best_of({step: scores.get(step) for step in there})
    return {*scheduled, *there[-newest:], best}


def _scores(workdir: Path) -> dict[int, float | None]:
    """By step; None for one that is damaged, which cannot win."""

    def score(step: int) -> float | None:
        try:
            return read_origin(workdir, step)["score"]
        except DamagedError:
            return None

    return {step: score(step) for step in select.steps(workdir)}


def keep_first(workdir: str | Path, last: int) -> None:
    """Removes the steps after `last`, before a run continues from there."""
    _drop(workdir, [step for step in select.steps(workdir) if step > last])


def is_tidy(workdir: str | Path) -> bool:
    """Whether `tidy` has nothing to do, but for steps that are not wanted."""
    folder = Path(workdir) / select.FOLDER
    return not (folder / DROPPED).exists() and not any(folder.glob("*/resume"))


def tidy(workdir: str | Path, *, scheduled: frozenset[int], keep_best: bool = True) -> None:
    """Keeps only the scheduled steps, the last and the best of a run that is done."""
    _drop(workdir, [])  # what was left by a kill here
    there = select.steps(workdir)
    resumable = [path for step in there if (path := step_path(workdir, step) / "resume").is_dir()]
    if not resumable:
        return
    scores = _scores(Path(workdir)) if keep_best else None
    wanted = _wanted(there, scheduled, scores, newest=1)
    _drop(workdir, [step for step in there if step not in wanted])
    for path in resumable:
        shutil.rmtree(path, ignore_errors=True)


def _drop(workdir: str | Path, steps: Sequence[int]) -> None:
    dropped = Path(workdir).absolute() / select.FOLDER / DROPPED
    shutil.rmtree(dropped, ignore_errors=True)
    for step in steps:
        dropped.mkdir(exist_ok=True)
        step_path(workdir, step).rename(dropped / str(step))
    shutil.rmtree(dropped, ignore_errors=True)


class Writer:
    """Saves the steps of one run; a context manager, which waits for the last save.

    All processes of a distributed run make one and call the same methods; the first writes. A
    program that ends without `close` may lose the last save, and is told so.

    Args:
      workdir: of the run; made if absent.
      scheduled: steps that stay. Others stay while they are of the newest two or the best.
      keep_best: whether the step with the highest score stays.
      require: called before anything is written or deleted; raises where the workdir is no more
        this process's (`tlx.checkpoints.owner.Held.require`).
    """

    def __init__(
        self,
        workdir: str | Path,
        *,
        scheduled: frozenset[int],
        keep_best: bool = True,
        require: Callable[[], None] = lambda: None,
    ) -> None:
        self._workdir, self._require = Path(workdir).absolute(), require
        self._scores = _scores(self._workdir)
        policy = _Keep(scheduled, self._scores if keep_best else None)
        self._manager = ocp.CheckpointManager(
            self._workdir / select.FOLDER,
            item_handlers={
                "weights": ocp.PyTreeCheckpointHandler(),
                "resume": ocp.PyTreeCheckpointHandler(),
                "meta": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                create=True,
                # one process has a thread of its own for saves; and where one fails, threads of
                # orbax's wait for minutes, at the end of the program too
                enable_async_checkpointing=jax.process_count() > 1,
                cleanup_tmp_directories=True,
                save_root_metadata=False,
                todelete_subdir=DROPPED,
                preservation_policy=policy,
            ),
        )
        # what is done while the run goes on, one thing at a time
        self._behind = futures.ThreadPoolExecutor(1, "checkpoints")
        self._job: futures.Future[None] | None = None
        self._is_closed = False
        atexit.register(self._tell_lost)

    @property
    def last(self) -> int | None:
        """The newest step saved, or being saved; None if there is none."""
        return max(self._scores, default=None)

    def save(
        self,
        step: int,
        variables: Params,
        *,
        origin: provenance.Origin,
        resume: Any = None,
    ) -> None:
        """Saves a step, unless it exists; done when the arrays are copied.

        All else is done while the run goes on. Of several processes each hands its part to orbax
        before this returns, since they do it together, in one order with what else they do.

        Args:
          step: above all steps saved before.
          variables: {"params": …, maybe "batch_stats"}, nested dicts of arrays.
          origin: of this step, with its score (see `provenance.at`).
          resume: pytree of arrays that the run needs to go on; None: it is done.

        Raises:
          NonFiniteError: something to save is NaN or infinite; names the leaves. Nothing is
            written.
          ValueError: a newer step is there, or the writer is closed.
          OSError: an earlier step could not be written: the disk is full, say. `check`, `wait` and
            `close` raise it too, whichever is called first. What is there stays, and that step
            counts as not saved.
        """
        if self._is_closed:
            raise ValueError(f"expected an open writer of {self._workdir}, got one that was closed")
        if step == self.last:
            return
        if self.last is not None and step < self.last:
            raise ValueError(f"expected a step above {self.last}, the newest saved, got {step}")
        found = {
            item: packing.to_host(values)
            for item, values in (("weights", variables), ("resume", resume))
            if values is not None
        }
        for leaves in found.values():
            _require_finite(leaves, step)
        self._settle()
        self._scores[step] = origin["score"]
        if jax.process_count() == 1:
            self._job = self._behind.submit(self._written, step, origin, found)
        else:
            with self._forgetting():
                self._write(step, origin, found)

    def check(self) -> None:
        """Raises what a save behind the run has raised, without waiting for one; microseconds.

        Of several processes nothing: that one of them has failed is seen where all wait for it.
        """
        if jax.process_count() == 1 and self._job is not None and self._job.done():
            self._settle()

    @property
    def _is_saving(self) -> bool:
        return self._job is not None and not self._job.done()

    def wait(self) -> None:
        """Waits until the last save is on disk, and what is not needed any more is deleted."""
        self._settle()
        if self._job is not None:
            self._job.result()
        if jax.process_index() == 0:
            shutil.rmtree(self._workdir / select.FOLDER / DROPPED, ignore_errors=True)

    def _written(
        self, step: int, origin: provenance.Origin, found: Mapping[str, dict[str, np.ndarray]]
    ) -> None:
        """Writes a step, by one process, and deletes what is not needed any more."""
        self._write(step, origin, found)
        with self._system_errors():
            self._manager.wait_until_finished()
        self._delete()

    def _write(
        self, step: int, origin: provenance.Origin, found: Mapping[str, dict[str, np.ndarray]]
    ) -> None:
        """Has orbax write the leaves of each item."""
        items, layout = {}, {}
        for item, leaves in found.items():
            arrays, layout[item] = packing.pack(leaves)
            items[item] = ocp.args.PyTreeSave(arrays)
        digests = {item: packing.digest(leaves) for item, leaves in found.items()}
        own = {**origin, "weights": digests["weights"]}
        meta = packing.signed({"origin": own, "layout": layout, "digests": digests})
        args = ocp.args.Composite(**items, meta=ocp.args.JsonSave(meta))
        self._require()
        with self._system_errors():
            saved = self._manager.save(step, args=args, force=True)
        if not saved:
            raise RuntimeError(f"orbax did not save step {step} in {self._workdir}")

    def _delete(self) -> None:
        """Deletes dropped steps, and what older ones hold to go on from.

        Not the folder of what is dropped: the next step may just be moved there.
        """
        self._require()
        with contextlib.suppress(OSError):  # the next start deletes what is left
            for path in (self._workdir / select.FOLDER / DROPPED).iterdir():
                shutil.rmtree(path, ignore_errors=True)
        for step in select.steps(self._workdir)[:-NUM_RESUMABLE]:
            shutil.rmtree(step_path(self._workdir, step) / "resume", ignore_errors=True)

    def _settle(self) -> None:
        """Waits until the last save is on disk; of several processes, the first deletes then."""
        try:
            with self._forgetting():
                if self._job is not None:
                    self._job.result()
                with self._system_errors():
                    self._manager.wait_until_finished()
        finally:
            if not self._is_saving:  # a signal may end the waiting before
                self._job = None
        if jax.process_count() > 1 and jax.process_index() == 0:
            self._job = self._behind.submit(self._delete)

    @contextlib.contextmanager
    def _forgetting(self) -> Iterator[None]:
        """Steps that are not there after an error do not count as saved."""
        try:
            yield
        except BaseException:
            if self._is_saving:
                raise
            for step in set(self._scores).difference(select.steps(self._workdir)):
                del self._scores[step]
            raise

    def _tell_lost(self) -> None:
        """At the end of a program that has not closed this."""
        error = self._job.exception() if self._job is not None and self._job.done() else None
        if error is not None:
            logging.getLogger("tlx").error(
                "expected the writer of checkpoints in %s to be closed, or used by `with`, got the "
                "end of the program; its last save is lost (%s)",
                self._workdir,
                error,
            )

    @contextlib.contextmanager
    def _system_errors(self) -> Iterator[None]:
        """Raises what the operating system refuses as an OSError with its place."""
        folder = str(self._workdir / select.FOLDER)
        try:
            with files.placed(folder):
                yield
        except TimeoutError as error:  # orbax goes by the time of day
            raise TimeoutError(
                f"expected a checkpoint to be written to {folder} within minutes ({error}); the "
                "disk stands still, or this machine's clock has jumped: give the command again, "
                "which goes on from the checkpoint before"
            ) from error
        except ValueError as error:
            found = _SYSTEM_ERROR.search(str(error))
            if found is None:
                raise
            code = int(found[1])
            raise OSError(code, os.strerror(code), folder) from error

    def close(self) -> None:
        """Waits, and frees the threads."""
        try:
            if not self._is_closed:
                self.wait()
        finally:
            self._is_closed = True
            atexit.unregister(self._tell_lost)
            self._behind.shutdown()
            self._manager.close()

    def __enter__(self) -> "Writer":
        """The writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the writer; what was saved before an error stays, and that error is raised.

        With several processes a save is finished by all of them, one of which may be gone: after an
        error it is not waited for.
        """
        if not isinstance(error, Exception):
            self.close()
        elif jax.process_count() == 1:
            try:
                self.close()
            except Exception as later:
                told = f"the last checkpoint could not be written: {later}"
                error.add_note(f"and {told}")
                logging.getLogger("tlx").error("%s", told)


def _require_finite(leaves: Any, step: int) -> None:
    bad = packing.non_finite(leaves)
    if bad:
        shown = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise NonFiniteError(
            f"expected finite values to save at step {step}, got NaN or infinity in {shown}"
        )
