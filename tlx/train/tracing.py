"""A profiler trace of some steps, on request."""

from pathlib import Path
from typing import NamedTuple

import jax

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


class Tracing:
    """Writes the trace of a run into `trace/` of its workdir, for xprof and Perfetto.

    One that cannot be written is left out with a warning. Tracing takes time of its own: the steps
    in it are slower.

    Args:
      trace: of which steps; None: of none.
      workdir: of the run.
    """

    def __init__(self, trace: Trace | None, workdir: Path) -> None:
        self._trace, self._folder = trace, workdir / FOLDER
        self._last: int | None = None

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
