"""What a whole study costs: `python -m tests.benchmarks.studies`.

Prints a line of JSON for each benchmark: a ratio, its aim, and the seconds of both sides.

- `workers`: the default study by two processes over the same by one, from the command to its page,
  compilation included; and how many of the numbers in its records differ, which is none.
- `second_start`: the share of its time that a study by one process spends in compiling, or in
  reading what was compiled, where another study of the same shapes was run before; beside it the
  share of tracing and lowering, which no cache takes away, and the same shares of the first study.
- `over_compute`: the time of a study by one process over that in which its compiled programs run,
  as JAX's profiler sees them in a second study of the same; the rest is compiling, tracing, Python
  and files.

Each begins with an empty cache of programs. They take some half an hour. Where other work shares
the cores, times say little.
"""

import argparse
import json
import os
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

DRIVER = """
import collections, json, sys, time
from pathlib import Path
import jax
from tlx.config import files
from tlx.studies import runner
from tlx.studies.spec import StudySpec

spent = collections.Counter()
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: spent.update({event: seconds}))
start = time.perf_counter()
runner.run(files.build(StudySpec, files.load(sys.argv[1])), Path(sys.argv[2]))
print(json.dumps({"seconds": time.perf_counter() - start, **spent}))
"""
"""A study in this process alone, and how long each of JAX's events took."""

PROFILED = """
import json, sys, tempfile
from pathlib import Path
import jax
from jax.profiler import ProfileData, ProfileOptions
from tlx.config import files
from tlx.studies import graph, runner
from tlx.studies.spec import StudySpec

options = ProfileOptions()
options.host_tracer_level, options.python_tracer_level, options.enable_hlo_proto = 1, 0, False
busy = 0.0

def running(file):
    \"\"\"The seconds in which an operation of a compiled program runs, in any thread.\"\"\"
    spans = sorted(
        (event.start_ns, event.end_ns)
        for plane in ProfileData.from_file(str(file)).planes
        for line in plane.lines
        for event in line.events
        if any(name == "hlo_op" for name, _ in event.stats)
    )
    total, until = 0.0, 0.0
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total / 1e9

def profiled(do):
    def done(self, tell):
        global busy
        with tempfile.TemporaryDirectory() as folder:
            jax.profiler.start_trace(folder, profiler_options=options)
            try:
                return do(self, tell)
            finally:
                jax.profiler.stop_trace()
                busy += sum(map(running, Path(folder).rglob("*.xplane.pb")))
    return done

for task in (graph.Training, graph.Asking):
    task.do = profiled(task.do)
runner.run(files.build(StudySpec, files.load(sys.argv[1])), Path(sys.argv[2]))
print(json.dumps({"running": busy}))
"""
"""The same, task by task under the profiler: how long its compiled programs run."""

COMPILING = "/jax/core/compile/backend_compile_duration"
TRACING = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
)
BENCHMARKS = ("workers", "second_start", "over_compute")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default=CONFIG, help=f"of a study ({CONFIG})")
    parser.add_argument("--workers", type=int, default=2, help="processes compared with one (2)")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if "workers" in args.only:
            workers(args.config, args.workers, Path(folder) / "workers")
        if "second_start" in args.only:
            second_start(args.config, Path(folder) / "starts")
        if "over_compute" in args.only:
            over_compute(args.config, Path(folder) / "compute")


def workers(config: str, num_workers: int, folder: Path) -> None:
    """The time of several processes over that of one, and the numbers that differ."""
    one, several = (folder / name for name in ("one", "several"))
    alone = seconds(config, one, 1, folder / "cache_of_one")
    together = seconds(config, several, num_workers, folder / "cache_of_several")
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


def second_start(config: str, folder: Path) -> None:
    """What of its time a study spends in compiling where one of the same shapes was run before."""
    first, second = (_driven(DRIVER, config, folder / n, folder) for n in ("first", "second"))

    def share(of: dict[str, float], *events: str) -> float:
        return round(sum(of.get(event, 0.0) for event in events) / of["seconds"], 3)

    timing.emit(
        benchmark="second_start_compile_share",
        ratio=share(second, COMPILING),
        aim=0.1,
        seconds=round(second.get(COMPILING, 0.0), 1),
        bound_seconds=round(second["seconds"], 1),
        tracing_share=share(second, *TRACING),
        first_share=share(first, COMPILING),
        first_tracing_share=share(first, *TRACING),
        first_seconds=round(first["seconds"], 1),
    )


def over_compute(config: str, folder: Path) -> None:
    """The time of a study over that of its compiled programs alone."""
    plain = _driven(DRIVER, config, folder / "plain", folder)
    profiled = _driven(PROFILED, config, folder / "profiled", folder)
    timing.emit(
        benchmark="study_over_its_compute",
        ratio=round(plain["seconds"] / profiled["running"], 3),
        aim=1.4,
        seconds=round(plain["seconds"], 1),
        bound_seconds=round(profiled["running"], 1),
        compiling_seconds=round(plain.get(COMPILING, 0.0), 1),
        tracing_seconds=round(sum(plain.get(event, 0.0) for event in TRACING), 1),
    )


def _driven(driver: str, config: str, workdir: Path, cache: Path) -> dict[str, float]:
    """What a study in a process of its own prints at its end."""
    done = subprocess.run(
        [sys.executable, "-c", driver, config, str(workdir)],
        check=True,
        env={**os.environ, **_cached(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _cached(folder: Path) -> dict[str, str]:
    """The environment of a process that keeps what it compiles in a folder."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        return {**resources.environment(), "XDG_CACHE_HOME": str(folder)}
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


def seconds(config: str, workdir: Path, num_workers: int, cache: Path) -> float:
    """The time of a study's command, with what it compiles kept in a folder."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-m", "tlx.cli", "study", f"--config={config}"]
    command += [f"--workdir={workdir}", f"--workers={num_workers}"]
    start = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command, check=True, env=environment, **quiet)
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
