"""What grows with the number of runs and devices: `python -m tests.benchmarks.scale [NAME …]`.

Prints a line of JSON for each figure: its name, its value, the aim, and what it was measured with.
Names as arguments choose; without any all are measured.

- `plan_of_1000_runs_seconds`: from the values of a config to the jobs of a cluster and what each
  waits for, for a study of at least 1,000 runs, nothing of which is done; the median of five.
  Beside it the processor's time, where others share the cores, and the seconds of a new process
  that does so once, imports included.
- `devices_2_over_1_step`, which `tests.benchmarks.scaling` measures, and `checkpoint_share_of_step`
  and `goodput_under_kills`, which `tests.benchmarks.goodput` does; the last takes six minutes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

PLANNED = """
import json, time
from pathlib import Path
from tlx import config
from tlx.studies import cluster, graph, jobs, workdir
from tlx.studies.spec import StudySpec

def planned(values):
    spec = config.build(StudySpec, values)
    tasks = workdir.tasks(spec, Path("/nonexistent/study"))
    parts, done = graph.parts(tasks), graph.done(tasks)
    todo = [number for number in range(len(parts)) if number not in done]
    arrays = [a for one in jobs.arrays(parts, todo, ()) for a in jobs.split(one, 1001)]
    record = cluster.Record("tlx")
    for number, array in enumerate(arrays):  # as they are submitted
        record.dependency(array.needs)
        record = cluster.Record("tlx", (*record.arrays, cluster.Submitted(str(number), array.jobs)))
    return tasks, arrays

values = config.load("configs/mini.py", ["replicates=110"])
times, processor = [], []
for _ in range(5):
    start, begun = time.perf_counter(), time.process_time()
    tasks, arrays = planned(values)
    times.append(time.perf_counter() - start)
    processor.append(time.process_time() - begun)
runs = sum(isinstance(task, graph.Training) for task in tasks)
counts = {"runs": runs, "parts": len(tasks), "arrays": len(arrays)}
counts["jobs"] = sum(len(array.jobs) for array in arrays)
print(json.dumps({"times": times, "processor": processor, **counts}))
"""


def plan_of_1000_runs_seconds() -> dict[str, Any]:
    """How long the jobs of a thousand runs take to be found."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PLANNED], check=True, stdout=subprocess.PIPE, text=True
    )
    whole = time.perf_counter() - start
    found = json.loads(done.stdout)
    times, processor = found.pop("times"), found.pop("processor")
    assert found["runs"] >= 1000
    process = whole - sum(times[1:])
    return {
        "value": round(statistics.median(times), 3),
        "aim": 1.0,
        "processor_seconds": round(statistics.median(processor), 3),
        "first": round(times[0], 3),
        "process_seconds": round(process, 2),
        **found,
    }


def printed_by(module: str, *arguments: str) -> dict[str, Any]:
    """The figure that another benchmark prints, from a process of its own."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    del found["name"]
    return found


def devices_2_over_1_step() -> dict[str, Any]:
    """See `tests.benchmarks.scaling`."""
    return printed_by("scaling", "devices_2_over_1_step")


def checkpoint_share_of_step() -> dict[str, Any]:
    """See `tests.benchmarks.goodput`."""
    return printed_by("goodput", "--only", "checkpoint_share_of_step")


def goodput_under_kills() -> dict[str, Any]:
    """See `tests.benchmarks.goodput`; the share that is lost."""
    return printed_by("goodput", "--only", "goodput_under_kills")


FIGURES: tuple[Callable[[], dict[str, Any]], ...] = (
    plan_of_1000_runs_seconds,
    devices_2_over_1_step,
    checkpoint_share_of_step,
    goodput_under_kills,
)


def main() -> None:
    """Prints the figures that the arguments name."""
    known = {figure.__name__: figure for figure in FIGURES}
    parser = argparse.ArgumentParser(description="What grows with runs and devices.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    names = parser.parse_args().names or list(known)
    if unknown := sorted(set(names) - known.keys()):
        parser.error(f"expected some of {', '.join(known)}, got {', '.join(unknown)}")
    for name in names:
        print(json.dumps({"name": name, **known[name]()}), flush=True)


if __name__ == "__main__":
    main()
