"""One workdir: begun, struck by signals and begun again until it is done, and then compared."""

import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from tests.faults import lives, remains
from tests.faults.changes import Changes
from tests.faults.lives import Life, Strike, Whole
from tests.faults.subjects import Subject

ALONE = 6.0
"""Seconds that the processes of a run have to end by themselves when another one was killed; then
they are ended, as launchers do it."""

FORKED = 0.8
"""The share of lives of runs that begin without having to load JAX, which is half of the time."""

PATIENCE = 300.0
"""Seconds that anything else has to end: where the machine is busy, Python begins that slowly."""

_WRONG = re.compile(
    r"Traceback \(most recent|is damaged|its last good one|[Ss]egmentation|leaked|[Ww]arning"
)
_SPAWN = re.compile(r"Traceback.*\n( .*\n)*EOFError: Ran out of input")
"""Python's, of a process that was being started when the one that starts it was killed."""
_DIED_TWICE = "got a process that died of it"


class Story:
    """What happens to one workdir, by a random number.

    Args:
      kind: what is killed, or with "-term" asked to stop.
      subject: what is done in it.
      whole: the same, when nothing stops it.
      folder: of this story alone.
      rng: decides all.
      most: strikes; then it is left alone until it is done.
    """

    def __init__(
        self,
        kind: str,
        subject: Subject,
        whole: Whole,
        folder: Path,
        rng: random.Random,
        most: int,
    ) -> None:
        self._most = most
        self._kind, self._subject, self._whole, self._rng = kind, subject, whole, rng
        self._folder, self._workdir = folder, folder / "at" / "w"
        self.strikes: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.survivors: list[dict[str, Any]] = []
        self.lives = 0

    def tell(self) -> dict[str, Any]:
        """Goes through it, to the end or the first problem; what happened, as JSON."""
        begun = time.monotonic()
        shutil.rmtree(self._folder, ignore_errors=True)
        for each in ("at", "said"):
            (self._folder / each).mkdir(parents=True)
        is_done = False
        while not is_done and not self.problems:
            is_done = self._live()
        if is_done and not self.problems:
            self.problems += remains.differences(self._whole.workdir, self._workdir)
        return {
            "kind": self._kind,
            "strikes": self.strikes,
            "survivors": self.survivors,
            "lives": self.lives,
            "problems": self.problems,
            "seconds": round(time.monotonic() - begun, 1),
        }

    def _live(self) -> bool:
        """One life; whether it came to the end."""
        out = self._folder / "said" / f"{self.lives}.txt"
        with Changes(self._folder / "at") as changes:
            out.touch()
            is_forked = self._rng.random() < FORKED
            life = Life(self._subject, self._workdir, out, is_forked=is_forked)
            self.lives += 1
            try:
                struck = self._strike(life, changes)
            finally:
                life.end(0.0)
        codes = [process.returncode for process in life.processes]
        is_split = self._subject.processes > 1 and any(s.ends_at_once for s in struck)
        text = out.read_text(errors="replace")
        if not is_split:  # else JAX tells of the dead one as it does
            self._check_said(out, text)
            self._check_codes(codes, struck, text)
        self.problems += remains.broken(self._workdir)
        return not any(codes)

    def _strike(self, life: Life, changes: Changes) -> list[Strike]:
        """Strikes until it ends."""
        struck: list[Strike] = []
        while not life.is_over() and len(self.strikes) < self._most:
            strike = lives.drawn(self._rng, self._subject, self._kind)
            if not life.wait(strike, self._whole, changes):
                break
            if not life.hit(strike, self._rng):
                continue
            struck.append(strike)
            self.strikes.append(
                {"at": strike.at, "target": strike.target, "signums": [*map(int, strike.signums)]}
            )
            if self._subject.command == "study" and strike.target == "other":
                self.strikes[-1]["hit"] = remains.hit(self._workdir)
                continue  # the study goes on by itself
            self._end(life, strike)
            self.strikes[-1]["hit"] = remains.hit(self._workdir)
            return struck
        if life.end(lives.SECONDS):
            self.problems.append(f"life {self.lives}: it did not end")
        return struck

    def _end(self, life: Life, strike: Strike) -> None:
        """Waits for the end after a strike."""
        is_split = self._subject.processes > 1 and strike.ends_at_once and strike.target != "all"
        begun = time.monotonic()
        ended = life.end(ALONE if is_split else PATIENCE)
        if is_split:
            took = round(time.monotonic() - begun, 2)
            codes = [process.returncode for process in life.processes]
            self.survivors.append({"ended": ended, "seconds": took, "codes": codes})
        elif ended:
            self.problems.append(f"life {self.lives}: {ended} processes did not end: {strike}")

    def _check_said(self, out: Path, text: str) -> None:
        told = _SPAWN.sub("", text).splitlines()
        lines = [line.strip()[:300] for line in told if _WRONG.search(line)]
        self.problems += [f"{out.name}: {line}" for line in lines]

    def _check_codes(self, codes: list[int], struck: list[Strike], text: str) -> None:
        expected = {0}
        for signum in {signum for strike in struck for signum in strike.signums}:
            expected |= {-signum} if signum == signal.SIGKILL else {-signum, 128 + signum}
        if any(strike.target == "other" for strike in struck) and _DIED_TWICE in text:
            expected.add(1)
        if not set(codes) <= expected:
            self.problems.append(f"life {self.lives}: exit status {codes}, not of {expected}")
