"""Ratios of times, measured in one run, and how they are printed."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax


def seconds(call: Callable[[], Any]) -> float:
    """Wall seconds of a call whose results are waited for."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def ratio(call: Callable[[], Any], bound: Callable[[], Any], *, repeats: int = 7) -> dict[str, Any]:
    """How many times as long `call` takes as `bound`: the median over interleaved pairs.

    Both are called once before, for compilation. Pairs alternate in order, so that a drift of
    the machine's speed does not favour one.
    """
    jax.block_until_ready((call(), bound()))
    ratios, ours, theirs = [], [], []
    for i in range(repeats):
        first, second = (call, bound) if i % 2 else (bound, call)
        times = {first: seconds(first)}
        times[second] = seconds(second)
        ratios.append(times[call] / times[bound])
        ours.append(times[call])
        theirs.append(times[bound])
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "seconds": round(statistics.median(ours), 4),
        "bound_seconds": round(statistics.median(theirs), 4),
    }


def emit(*, benchmark: str, ratio: float, aim: float, **facts: Any) -> None:
    """Prints a benchmark as a line of JSON."""
    print(json.dumps({"benchmark": benchmark, "ratio": ratio, "aim": aim, **facts}))
    sys.stdout.flush()


def memory_bytes(what: str) -> int:
    """The "peak" or the "current" memory of the process, of the device where it has its own."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        names = {"peak": "peak_bytes_in_use", "current": "bytes_in_use"}
        return device.memory_stats()[names[what]]
    # not getrusage, where a child's maximum begins at its parent's
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[{"peak": "VmHWM", "current": "VmRSS"}[what]].split()[0]) * 1024
