"""Work that processes do in tests of `tlx.studies.pool`; they import this and nothing heavy."""

import errno
import os
import signal
import time
from pathlib import Path


class Unsendable(Exception):
    def __reduce__(self):
        raise TypeError("no way to pickle this")


def make(folder: Path, acts: dict[str, str]):
    """Does part n: says "half of n", and returns n²; or what `acts["part_n"]` says instead."""

    def do(number, tell):
        act = acts.get(f"part_{number}", "")
        place = folder / f"{number}.pid"
        begun_before = place.exists()
        part = folder / f"{number}.new"
        part.write_text(str(os.getpid()))
        part.rename(place)
        tell(f"half of {number}")
        if act == "raise":
            raise ValueError(f"part {number} cannot be done")
        if act == "full disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "records/a.npz")
        if act == "raise unsendable":
            raise Unsendable("no way to pickle this")
        if act == "die" or (act == "die once" and not begun_before):
            os.kill(os.getpid(), signal.SIGKILL)
        if act == "environment":
            return f"{os.environ['TLX_TEST_OF_POOL']} {os.environ['HOME']}"
        if act == "save when stopped":
            signal.signal(signal.SIGTERM, lambda *_: (folder / f"{number}.saved").touch())
            place.with_suffix(".ready").touch()
            while not (folder / f"{number}.saved").exists():
                time.sleep(0.01)
            raise KeyboardInterrupt
        if act == "sleep":
            time.sleep(120)
        return number * number

    return do
