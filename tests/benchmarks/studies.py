"""What a whole study costs: `python -m tests.benchmarks.studies`.

Prints a line of JSON for each benchmark: a ratio, its aim, and the seconds of both sides.

- `workers`: the default study by two processes over the same by one, from the command to its page,
  compilation included; and how many of the numbers in its records differ, which is none.

It takes some ten minutes. Where other work shares the cores, times say little.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.benchmarks import timing
from tlx import records
from tlx.records.schema import as_mapping
from tlx.studies import resources

CONFIG = "configs/mini.py"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default=CONFIG, help=f"of a study ({CONFIG})")
    parser.add_argument("--workers", type=int, default=2, help="processes compared with one (2)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workers(args.config, args.workers, Path(folder))


def workers(config: str, num_workers: int, folder: Path) -> None:
    """The time of several processes over that of one, and the numbers that differ."""
    one, several = (folder / name for name in ("one", "several"))
    alone = seconds(config, one, 1)
    together = seconds(config, several, num_workers)
    counts = compared(one / "records", several / "records")
    timing.emit(
        benchmark="study_workers_speedup",
        ratio=round(together / alone, 3),
        aim=0.67,
        seconds=round(together, 1),
        bound_seconds=round(alone, 1),
        workers=num_workers,
        cores=resources.cores(),
        numbers=counts[0],
        differing=counts[1],
    )


def seconds(config: str, workdir: Path, num_workers: int) -> float:
    """The time of a study's command."""
    command = [sys.executable, "-m", "tlx.cli", "study", f"--config={config}"]
    command += [f"--workdir={workdir}", f"--workers={num_workers}"]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def compared(ours: Path, theirs: Path) -> tuple[int, int]:
    """How many numbers two folders of records have, and how many of them differ; not of times."""
    count = differing = 0
    others = {place(record): record for record in records.query(theirs)}
    for record in records.query(ours):
        there = as_mapping(others.pop(place(record)).results)
        for name, value in as_mapping(record.results).items():
            if name == "seconds":
                continue
            x, y = np.asarray(value), np.asarray(there[name])
            same = (x == y) | ((x != x) & (y != y))
            count += x.size
            differing += x.size - int(np.sum(same))
    return count, differing + len(others)


def place(record: records.Record) -> str:
    """What a record is about, whatever its folder is called."""
    return records.canonical_json({"question": record.question, "inputs": record.inputs})


if __name__ == "__main__":
    main()
