"""Files: what the system refuses is told with its place."""

import contextlib
import os
from collections.abc import Iterator

from tlx.core import public

__dir__ = public.names(__name__)


@contextlib.contextmanager
def placed(path: str | os.PathLike[str]) -> Iterator[None]:
    """An OSError within this context that names no file names this one, as of a full disk.

    >>> from tlx.core import files
    >>> with files.placed("runs/P/metrics.jsonl"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    OSError: [Errno 28] No space left on device: 'runs/P/metrics.jsonl'
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # else it says by itself what it means
            error.filename = error.filename or os.fspath(path)
        raise
