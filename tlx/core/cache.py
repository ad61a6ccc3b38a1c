"""The user's cache: folders that are private to the user, and compiled programs in one of them."""

import contextlib
import hashlib
import os
import platform
import stat
import sys
import time
from importlib import metadata
from pathlib import Path

from tlx.core import processor, public

__dir__ = public.names(__name__)

PROGRAMS_BYTES = 2 * 2**30
"""Compiled programs that are kept; above, those that were written longest ago go first."""

_LEAST: dict[str, type[float] | type[int]] = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": float,
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": int,
}
"""What JAX keeps nothing below, and of which kind."""

LOOK_SECONDS = 86_400.0
"""Between two looks at how many there are: thousands of files in a home far away take a while."""


def folder(name: str) -> Path | None:
    """A folder in the user's cache, private to the user; None if there can be none.

    In `$XDG_CACHE_HOME/tlx`, or `~/.cache/tlx`.

    Args:
      name: of the folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
        found = root / "tlx" / name
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = found.lstat()
        own = getattr(os, "getuid", lambda: status.st_uid)()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != own:
            return None
        if status.st_mode & 0o077:
            found.chmod(0o700)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    return found


def programs() -> dict[str, str]:
    """The environment variables that have a process keep what JAX compiles, for processes to come.

    In a folder of the user's cache, which nobody else may write to, since what is found there is
    executed; and one for each kind of processor and version of jaxlib, since a home may be seen
    from several machines. However little time or space a program takes, unless JAX's variables for
    the least of them are set. {} where JAX_COMPILATION_CACHE_DIR is set: that is the place (empty:
    none).
    """
    root = None if "JAX_COMPILATION_CACHE_DIR" in os.environ else folder("programs")
    if root is None:
        return {}
    with contextlib.suppress(OSError):  # another process deletes what is oldest, too
        looked = root / "looked"
        if not looked.exists() or time.time() - looked.stat().st_mtime > LOOK_SECONDS:
            looked.touch()
            _prune(root, PROGRAMS_BYTES)
    version, machine = metadata.version("jaxlib"), platform.machine()
    kind = " ".join([version, machine, *sorted(processor.cpu_features())])
    place = str(root / hashlib.sha256(kind.encode()).hexdigest()[:16])
    least = {name: "0" for name in _LEAST if name not in os.environ}
    return {"JAX_COMPILATION_CACHE_DIR": place, **least}


def keep_programs() -> None:
    """Has this process, and those that it starts, keep what is compiled, as `programs` says.

    Without effect on this one after its first compilation: JAX decides then.
    """
    found = programs()
    os.environ |= found
    if found and "jax" in sys.modules:  # which has read its variables
        import jax

        jax.config.update("jax_compilation_cache_dir", found["JAX_COMPILATION_CACHE_DIR"])
        for name, kind in _LEAST.items():
            if name in found:
                jax.config.update(name.lower(), kind(found[name]))


def _prune(root: Path, most_bytes: int) -> None:
    """Deletes the files that were written longest ago, until the rest has so many bytes."""
    found = []
    for path in root.rglob("*"):
        with contextlib.suppress(OSError):  # another process has deleted it
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime, status.st_size, path))
    left = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if left <= most_bytes:
            break
        path.unlink(missing_ok=True)
        left -= size
