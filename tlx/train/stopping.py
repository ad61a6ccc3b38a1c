"""Stopping by a signal, so that nothing is lost: SIGTERM of a scheduler, Ctrl-C of a person.

Where nothing is under way that steps could tell apart, a signal raises `Stopped`. A training loop
takes note of it instead, saves after the step that it is at, and raises then. A Ctrl-C after that
ends the process at once, by the system, whatever it is doing; what is on disk is whole at any time.
Another SIGTERM changes nothing: Slurm sends two within milliseconds when it preempts a job, and it
sends one to the processes of a study beside that of their parent.
"""

import contextlib
import itertools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

SIGNALS = (signal.SIGTERM, signal.SIGINT)

Asked: TypeAlias = Callable[[], int | None]
"""`() -> signum`: the signal that asked to stop; None where the loop is to go on."""

_SHARED_STEPS = itertools.count()
"""Steps of this process over all its runs: jax wants numbers that only rise, the same in each."""


class Stopped(KeyboardInterrupt):
    """A signal asked to stop; the same call goes on from here.

    Attributes:
      signum: the signal.
    """

    def __init__(self, signum: int, where: str = "") -> None:
        super().__init__(signum, where)
        self.signum = signum
        self.where = where

    def __str__(self) -> str:
        """What stopped where."""
        return f"stopped by {signal.Signals(self.signum).name}{self.where and f' {self.where}'}"


AGAIN_SECONDS = 0.05
"""After which a signal that came at a bad moment is sent again."""


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """A signal raises `Stopped` within this context, where it is entered in the main thread.

    Where nothing can be raised the signal is sent again a moment later: while a module is being
    imported, since those of jaxlib end the process by SIGSEGV or SIGABRT then, and where Python
    drops exceptions, as in JAX's callback of the garbage collector.
    """
    outside = _num_imports(sys._getframe())  # of a program that calls this while it is imported

    def stop(signum: int, frame: Any, arm: Callable[[], None]) -> None:
        if _num_imports(frame) <= outside:
            raise Stopped(signum)
        _send_again(signum, arm)

    with _handled(stop) as arm:
        before = sys.unraisablehook

        def dropped(told: Any) -> None:
            if isinstance(told.exc_value, Stopped):
                _send_again(told.exc_value.signum, arm)
            else:
                before(told)

        sys.unraisablehook = dropped
        try:
            yield
        finally:
            sys.unraisablehook = before


def _num_imports(frame: Any) -> int:
    """How many frames of importing a module there are around a frame."""
    found = 0
    while frame is not None:
        found += frame.f_code.co_filename == "<frozen importlib._bootstrap>"
        frame = frame.f_back
    return found


def _send_again(signum: int, arm: Callable[[], None]) -> None:
    arm()
    timer = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signum))
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def noted() -> Iterator[Asked]:
    """Whether a signal has asked to stop, as a function to be called after each step.

    At the end of the context `Stopped` is raised if a signal came that nobody has asked for. In a
    run of several processes a signal to any of them stops all after the same step: that is jax's
    preemption service, which takes SIGTERM itself from `jax.distributed.initialize` on.

    Yields:
      The function; with several processes all call it after each step.
    """
    from tlx.train import distributed  # here, so that a command catches signals before jax is there

    is_shared, seen = distributed.is_shared(), list[int]()

    def note(signum: int, frame: Any, arm: Callable[[], None]) -> None:
        logging.getLogger("tlx").warning(
            "%s: stopping after the step under way; the next Ctrl-C ends at once",
            signal.Signals(signum).name,
        )
        if is_shared:
            os.kill(os.getpid(), signal.SIGTERM)  # jax tells the others
        else:
            seen.append(signum)

    def asked() -> int | None:
        if is_shared and distributed.is_preempted(next(_SHARED_STEPS)):
            seen.append(signal.SIGTERM)
        return seen[0] if seen else None

    with _handled(note, (signal.SIGINT,) if is_shared else SIGNALS):
        yield asked
    if seen:
        raise Stopped(seen[0])


@contextlib.contextmanager
def _handled(
    handler: Callable[[int, Any, Callable[[], None]], None], signums: Sequence[int] = SIGNALS
) -> Iterator[Callable[[], None]]:
    """With a handler of the first signal; those that this process ignores it still does.

    From the first on a SIGTERM does nothing and a SIGINT what the system does, it ends the process.

    In any other thread than the main one, where Python allows none, nothing is handled.

    Args:
      handler: of the signal, the frame that it interrupts, and what is yielded.
      signums: the signals.

    Yields:
      what makes the next signal the first again.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {s: signal.getsignal(s) for s in signums}
        before = {s: found for s, found in before.items() if found not in (signal.SIG_IGN, None)}

    def first(signum: int, frame: Any) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL if each == signal.SIGINT else _nothing)
        handler(signum, frame, arm)

    def arm() -> None:
        for signum in before:
            signal.signal(signum, first)

    arm()
    try:
        yield arm
    finally:
        for signum, found in before.items():
            signal.signal(signum, found)


def _nothing(signum: int, frame: Any) -> None:
    """A handler, not SIG_IGN, which the processes that are started now would inherit."""
