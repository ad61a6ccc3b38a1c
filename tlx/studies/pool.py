"""Parts of a work, done one after another here or side by side by processes of this machine.

Nothing here knows what a part is: it has a number, needs others, and is done by a function that
each process makes for itself. The processes are started fresh ("spawn", as JAX requires) and end
with the one that started them, however that ends.
"""

import abc
import collections
import contextlib
import functools
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection
from typing import Any, NamedTuple

ATTEMPTS = 2
"""How often a part is begun before a process that dies of it is an error."""

PATIENCE = 60.0
"""Seconds that processes have to save what they are at, when the work is stopped."""

Tell = Callable[[Any], None]
Work = Callable[[int, Tell], Any]
"""`(part, tell) -> result`: does a part; `tell` shows how far it is."""


class Part(NamedTuple):
    """One of the parts of a work, which are numbered from 0.

    Attributes:
      name: for messages.
      kind: parts of one kind share compiled programs, so a process that has done one of them
        takes the others first.
      weight: what it costs, in any unit.
      needs: numbers of parts that come before it; they are smaller than its own.
    """

    name: str
    kind: str
    weight: float
    needs: frozenset[int]


class Watcher(abc.ABC):
    """What is told of parts while they are done, in the process that runs them all."""

    @abc.abstractmethod
    def begun(self, number: int) -> None:
        """A part is begun."""

    @abc.abstractmethod
    def told(self, number: int, said: Any) -> None:
        """What its function has told."""

    @abc.abstractmethod
    def done(self, number: int, result: Any) -> None:
        """It is done."""

    @abc.abstractmethod
    def failed(self, number: int, error: BaseException) -> None:
        """It cannot be done; the error is raised after this."""

    @abc.abstractmethod
    def died(self, number: int, status: int) -> None:
        """A process died of it with this exit status, and it will be begun again."""


class WorkerDiedError(ChildProcessError):
    """Processes died of a part as often as it is tried; the message names it."""


def run_here(parts: Sequence[Part], make_work: Callable[[], Work], watcher: Watcher) -> None:
    """Does all parts in their order, in this process.

    Raises:
      Exception: what a part raised.
    """
    work = make_work()
    for number in range(len(parts)):
        watcher.begun(number)
        try:
            result = work(number, functools.partial(watcher.told, number))
        except Exception as error:
            watcher.failed(number, error)
            raise
        watcher.done(number, result)


def run(
    parts: Sequence[Part],
    make_work: Callable[[], Work],
    watcher: Watcher,
    num_workers: int,
    *,
    environment: Mapping[str, str] | None = None,
    more_memory: str = "--workers=1",
) -> None:
    """Does all parts in other processes, each part when those that it needs are done.

    Of the parts that can be begun a process takes one of a kind that it has begun before, then
    one of a kind that no other has; of these the one with the longest way to the end.

    Args:
      parts: what there is to do.
      make_work: makes the function that does a part, once in each process; it, and what the
        function returns and raises, can be pickled.
      watcher: is told what happens.
      num_workers: processes, at least 1.
      environment: variables that they have besides those of this process.
      more_memory: what gives a part more, for messages.

    Raises:
      WorkerDiedError: processes died of one part `ATTEMPTS` times.
      Exception: what a part raised. The parts under way are stopped then.
    """
    todo = _Todo(parts)
    start = functools.partial(_Worker, make_work, environment or {})
    workers = [start() for _ in range(min(num_workers, len(parts)))]
    tries = collections.Counter[int]()
    try:
        while todo:
            for worker in workers:
                if worker.part is None and (number := todo.take(workers, worker)) is not None:
                    tries[number] += 1
                    watcher.begun(number)
                    worker.begin(number, parts[number].kind)
            for ready in connection.wait([worker.conn for worker in workers]):
                at = next(i for i, worker in enumerate(workers) if worker.conn is ready)
                worker, number = workers[at], workers[at].part
                said, value = worker.received()
                if said == "ended":
                    workers[at] = start()
                if number is None:  # it was waiting for a part that can be begun
                    continue
                if said == "ended" and tries[number] >= ATTEMPTS:
                    said, value = "failed", _died(parts[number], tries[number], value, more_memory)
                if said == "ended":
                    watcher.died(number, value)
                    todo.put_back(number)
                elif said == "told":
                    watcher.told(number, value)
                elif said == "failed":
                    watcher.failed(number, value)
                    raise value
                else:
                    worker.part = None
                    todo.finish(number)
                    watcher.done(number, value)
    finally:
        _end(workers)


def _end(workers: Sequence["_Worker"]) -> None:
    """Ends the processes, which have `PATIENCE` seconds to save what they are at."""
    until = time.monotonic() + PATIENCE
    for worker in workers:
        worker.ask_to_end()
    if not all(worker.has_ended(patience=1.0) for worker in workers):
        logging.getLogger("tlx").warning("what is under way is saved; once more ends at once")
    for worker in workers:
        worker.end(patience=max(0.0, until - time.monotonic()))


class _Todo:
    """The parts that are not done, and which of them can be begun."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts, self._ways = parts, _ways(parts)
        self._waiting = {number: set(part.needs) for number, part in enumerate(parts)}
        self._begun: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, workers: Sequence["_Worker"], own: "_Worker") -> int | None:
        """The part that a process begins now; None while all that are left wait for others."""
        others = set[str]().union(*(worker.kinds for worker in workers if worker is not own))

        def order(number: int) -> tuple[int, float, int]:
            kind = self._parts[number].kind
            rank = 0 if kind in own.kinds else 1 if kind not in others else 2
            return rank, -self._ways[number], number

        ready = (n for n, needs in self._waiting.items() if not needs and n not in self._begun)
        number = min(ready, key=order, default=None)
        if number is not None:
            self._begun.add(number)
        return number

    def put_back(self, number: int) -> None:
        """A part is to be begun again."""
        self._begun.remove(number)

    def finish(self, number: int) -> None:
        """A part is done, and no other one waits for it any more."""
        del self._waiting[number]
        for needs in self._waiting.values():
            needs.discard(number)


def _ways(parts: Sequence[Part]) -> list[float]:
    """The weight of the longest way from each part to the end, its own included."""
    ways = [part.weight for part in parts]
    for number in reversed(range(len(parts))):
        for need in parts[number].needs:
            ways[need] = max(ways[need], parts[need].weight + ways[number])
    return ways


class _Worker:
    """A process, and the part that it is at."""

    def __init__(self, make_work: Callable[[], Work], environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.conn, theirs = context.Pipe()
        self.part: int | None = None
        self.kinds: set[str] = set()
        self._process = context.Process(target=_serve, args=(theirs, make_work), daemon=True)
        with _environ(environment), _deaf():  # before the process imports anything
            self._process.start()
        theirs.close()  # here, so that its messages end when the process does

    def begin(self, number: int, kind: str) -> None:
        """Has the process begin a part."""
        self.part = number
        self.kinds.add(kind)
        with contextlib.suppress(OSError):  # it has just died, which is seen where it answers
            self.conn.send(number)

    def received(self) -> tuple[str, Any]:
        """Its next message; ("ended", exit status) where the process is no more."""
        try:
            message: tuple[str, Any] = self.conn.recv()
        except (EOFError, OSError):
            self.end(patience=0.0)
            return "ended", self._process.exitcode
        return message

    def ask_to_end(self) -> None:
        """Has the process save what it is at, and end."""
        self._process.terminate()

    def has_ended(self, *, patience: float) -> bool:
        """Whether it has, after at most so many seconds."""
        self._process.join(patience)
        return not self._process.is_alive()

    def end(self, *, patience: float) -> None:
        """Ends the process, after so many seconds whatever it is doing."""
        self._process.join(patience)
        self._process.kill()
        self._process.join()
        self.conn.close()


@contextlib.contextmanager
def _environ(more: Mapping[str, str]) -> Iterator[None]:
    """With further environment variables, which a process started now inherits."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """A process started now does not hear SIGUSR2, which would end it.

    By it a scheduler tells every process of a job that its time is nearly over; this process, which
    it is meant for, then has its own save.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _died(part: Part, tries: int, status: int, more_memory: str) -> WorkerDiedError:
    return WorkerDiedError(
        f"expected {part.name} to be done, got a process that died of it {tries} times, the "
        f"last time with exit status {status} (-9: killed, often for want of memory); what "
        f"was done before is kept: give the command again, with {more_memory} if memory is short"
    )


def _serve(conn: connection.Connection, make_work: Callable[[], Work]) -> None:
    """What a process does: parts, until there are no more messages."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work: Work | None = None
    for number in _messages(conn):
        try:
            work = work or make_work()
            result = work(number, lambda said: conn.send(("told", said)))
            conn.send(("done", result))
        except KeyboardInterrupt:  # the parent has asked for it
            return
        except Exception as error:  # the parent raises it
            conn.send(("failed", _picklable(error)))


def _messages(conn: connection.Connection) -> Iterator[int]:
    with contextlib.suppress(EOFError, OSError):
        while True:
            yield conn.recv()


def _picklable(error: Exception) -> Exception:
    """An error that arrives as it is sent, with where it was raised as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
