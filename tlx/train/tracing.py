"""A profiler trace of some steps, on request."""

import logging
from pathlib import Path
from typing import NamedTuple

import jax

from tlx.config import problems as check
from tlx.train import trackers

FOLDER = "trace"


class Trace(NamedTuple):
    """Which steps the profiler sees.

    Attributes:
      step: those after this step; after a start's first one, where it goes on from a later step.
      steps: how many.
    """

    step: int
    steps: int


def require(trace: Trace | None) -> None:
    """Raises unless it names steps.

    Raises:
      ValueError: saying what was expected.
    """
    if trace is None:
        return
    if not isinstance(trace, Trace):
        raise ValueError(f"trace: expected Trace(step, steps) or None, got {trace!r}")
    found = check.integer("trace.step", trace.step, low=0)
    found += check.integer("trace.steps", trace.steps, low=1)
    if found:
        raise ValueError("\n".join(found))


class Tracing:
    """Writes the trace of a run into `trace/` of its workdir, for xprof and Perfetto.

    One that cannot be written, or of steps that the run does not reach, is left out with a warning.
    Tracing takes time of its own: the steps in it are slower.

    Args:
      trace: of which steps; None: of none.
      workdir: of the run.
      begun: the step that this start goes on from.
      num_steps: the last step of the run; None: not known.
    """

    def __init__(
        self, trace: Trace | None, workdir: Path, *, begun: int = 0, num_steps: int | None = None
    ) -> None:
        self._trace, self._folder = trace, workdir / FOLDER
        self._last: int | None = None
        if trace is not None and num_steps is not None and max(trace.step, begun + 1) >= num_steps:
            logging.getLogger("tlx").warning(
                "%s: expected steps after the first of this start (%d) and up to num_steps (%d), "
                "got those after step %d; training goes on without it",
                *(FOLDER, begun + 1, num_steps, trace.step),
            )
            self._trace = None

    def is_due(self, done: int) -> bool:
        """Whether it begins or ends after this step."""
        if self._last is not None:
            return done >= self._last
        return self._trace is not None and done >= self._trace.step

    def turn(self, done: int) -> None:
        """Begins it, or ends it; all steps dispatched are done."""
        if self._last is not None:
            self.end()
        elif self._trace is not None:
            if trackers.attempt(FOLDER, self._begin):
                self._last = done + self._trace.steps
            self._trace = None

    def end(self) -> None:
        """Ends it, if it is under way."""
        if self._last is not None:
            self._last = None
            trackers.attempt(FOLDER, jax.profiler.stop_trace)

    def _begin(self) -> None:
        jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
