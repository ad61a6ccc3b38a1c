"""Many stories, side by side, with a log by which they can be gone on with; and their table."""

import collections
import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

from tests.faults import lives, subjects
from tests.faults.story import Story

SHARES = {
    "run": 0.85,
    "study": 0.08,
    "processes": 0.07,
    "run-term": 0.1,
    "study-term": 0.02,
    "processes-term": 0.02,
}
"""Of the kills that are asked for: a subject that is killed, or that is asked to stop, on top."""

LOG = "log.jsonl"
MOST_STRIKES = 12
"""In one workdir."""

Log = list[dict[str, Any]]


def quotas(kills: int, kinds: Sequence[str]) -> dict[str, int]:
    """The strikes of each kind, in their shares: so many kills, and those that ask to stop.

    >>> quotas(20, ("run", "run-term"))
    {'run': 20, 'run-term': 2}
    """
    shares = {kind: SHARES[kind] for kind in kinds}
    total = sum(share for kind, share in shares.items() if not kind.endswith("-term"))
    total = total or sum(shares.values())
    return {kind: max(1, round(kills * share / total)) for kind, share in shares.items()}


class Campaign:
    """Stories until there have been so many strikes of each kind.

    Args:
      folder: of the campaign: its log, what nothing has stopped, and stories that failed.
      seed: with the number of a story, of all that is random in it.
      wanted: the strikes of each kind.
      tell: called with a line when a story is over.
    """

    def __init__(
        self, folder: Path, seed: int, wanted: Mapping[str, int], tell: Callable[[str], None]
    ) -> None:
        self._folder, self._seed, self._wanted, self._tell = folder, seed, wanted, tell
        self._lock = threading.Lock()
        self._subjects = subjects.make(folder / "configs")
        self._wholes: dict[str, lives.Whole] = {}
        self._next = collections.Counter[str]()
        self.log = read(folder)

    def run(self, jobs: int) -> Log:
        """Tells stories, so many at a time; all that were told, those of before included."""
        for name in dict.fromkeys(kind.removesuffix("-term") for kind in self._wanted):
            self._wholes[name] = lives.whole(self._subjects[name], self._folder / "whole" / name)
            self._tell(f"{name}: {self._wholes[name].seconds:.1f} s, when nothing stops it")
        with futures.ThreadPoolExecutor(jobs) as pool:
            under_way = [pool.submit(self._tell_stories) for _ in range(jobs)]
            try:
                for done in under_way:
                    done.result()
            except BaseException:
                lives.STOP.set()
                raise
        return self.log

    def _tell_stories(self) -> None:
        while (chosen := self._choose()) is not None:
            kind, number, left = chosen
            name = f"{kind}-{number}"
            rng = random.Random(f"{self._seed} {name}")
            subject = kind.removesuffix("-term")
            folder = self._folder / "stories" / name
            most = min(left, MOST_STRIKES)
            story = Story(kind, self._subjects[subject], self._wholes[subject], folder, rng, most)
            try:
                told = story.tell()
            except lives.Interrupted:
                return
            self._note({"story": name, "seed": self._seed, **told})

    def _choose(self) -> tuple[str, int, int] | None:
        """The kind that lacks most, the number of a story that was not told, and what is left."""
        with self._lock:
            there = counts(self.log)
            lacks = {
                kind: 1 - there[kind] / wanted for kind, wanted in self._wanted.items() if wanted
            }
            kind = max(lacks, key=lambda name: lacks[name])
            if lacks[kind] <= 0:
                return None
            told = {entry["story"] for entry in self.log if entry["seed"] == self._seed}
            while f"{kind}-{self._next[kind]}" in told:
                self._next[kind] += 1
            self._next[kind] += 1
            return kind, self._next[kind] - 1, self._wanted[kind] - there[kind]

    def _note(self, entry: dict[str, Any]) -> None:
        folder = self._folder / "stories" / entry["story"]
        if entry["problems"]:
            kept = self._folder / "failed" / entry["story"]
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(exist_ok=True)
            folder.rename(kept)
        else:
            shutil.rmtree(folder)
        with self._lock:
            self.log.append(entry)
            with (self._folder / LOG).open("a") as file:
                file.write(json.dumps(entry) + "\n")
            there = counts(self.log)
            so_far = ", ".join(f"{kind} {there[kind]} of {n}" for kind, n in self._wanted.items())
        failed = f"; FAILED: {entry['problems'][0]}" if entry["problems"] else ""
        hits = len(entry["strikes"])
        self._tell(f"{time.strftime('%H:%M:%S')}  {entry['story']}: {hits} ({so_far}){failed}")


def read(folder: Path) -> Log:
    """The stories of a campaign's log; one that was cut off is left out."""
    found = []
    if (folder / LOG).exists():
        for line in (folder / LOG).read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def counts(log: Log) -> collections.Counter[str]:
    """The strikes of each kind."""
    found = collections.Counter[str]()
    for entry in log:
        found[entry["kind"]] += len(entry["strikes"])
    return found


def table(log: Log) -> str:
    """What was struck, where, and what came of it."""
    kinds = [kind for kind in SHARES if any(entry["kind"] == kind for entry in log)]
    rows = collections.defaultdict[str, collections.Counter[str]](collections.Counter)
    for entry in log:
        kind = entry["kind"]
        rows["stories"][kind] += 1
        rows["starts"][kind] += entry["lives"]
        rows["strikes"][kind] += len(entry["strikes"])
        rows["failed stories"][kind] += bool(entry["problems"])
        for strike in entry["strikes"]:
            rows[f"  {_signals(strike['signums'])}, to {strike['target']}"][kind] += 1
            rows[f"  at a random {strike['at']}"][kind] += 1
            rows[f"  hit {strike['hit']}"][kind] += 1
        for survivor in entry["survivors"]:
            rows["others ended by themselves"][kind] += not survivor["ended"]
            rows["others were ended"][kind] += bool(survivor["ended"])
    first = [name for name in ("stories", "starts", "failed stories", "strikes") if name in rows]
    order = [*first, *sorted(name for name in rows if name not in first)]
    width = max(map(len, order), default=0)
    lines = ["".join([" " * width, *(f"{kind:>16}" for kind in (*kinds, "all"))])]
    for name in order:
        values = [rows[name][kind] for kind in kinds]
        lines.append("".join([f"{name:<{width}}", *(f"{n:>16}" for n in (*values, sum(values)))]))
    return "\n".join(lines)


def _signals(signums: list[int]) -> str:
    names = {9: "KILL", 15: "TERM", 2: "INT"}
    return " then ".join(names[signum] for signum in signums)
