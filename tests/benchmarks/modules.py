"""What the analyses of modules cost: `python -m tests.benchmarks.modules`.

Prints a line of JSON for each benchmark: a ratio, its aim, and what was compared.

- `criticality`: a sweep of all modules over bare jitted forward passes, one for each module and
  point, on the same batches.
- `tricks`: the same sweep done otherwise, over the same passes: module by module with whole
  forward passes, with all that stays closed over in one compiled loop over points, and with the
  points of a chunk vectorised.
- `memory`: what a sweep takes beside the parameters, by the number of points.
- `spectra`: of every layer of a ResNet-50, in seconds over a minute.

Where other work shares the cores, times say little.
"""

import argparse
import functools
import os
import subprocess
import sys

import jax
import numpy as np

from tests.benchmarks import spectra_resnet50, timing
from tests.benchmarks.landscape import NETS, Setting
from tlx.analyses.landscape.modules import criticality
from tlx.core import evaluate_path, metrics, partition, paths, sweeps

POINTS = 32
BENCHMARKS = ("criticality", "tricks", "memory", "spectra")
METRIC = metrics.classification()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    parser.add_argument("--net", nargs="+", choices=NETS, default=tuple(NETS))
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--points", type=int, default=POINTS, help="of each module")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs a ratio")
    parser.add_argument("--peak-memory", type=int, metavar="POINTS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_memory:
        print(_peak_of_a_sweep(args.peak_memory))
        return
    for net in args.net:
        setting = Setting(net, "float32", args.images)
        if "criticality" in args.only:
            over_forwards(setting, args.points, args.repeats)
        if "tricks" in args.only:
            tricks(setting, args.points, max(1, args.repeats // 2))
    if "memory" in args.only:
        memory()
    if "spectra" in args.only:
        for line in spectra_resnet50.lines():
            timing.emit(**line)


def over_forwards(setting: Setting, points: int, repeats: int) -> None:
    """A grid of places and noise for every module, over as many forward passes."""
    on, modules = _modules(setting)
    alphas = np.linspace(0, 1, points // 4, dtype=np.float32)

    def ours():
        found = criticality.surface(
            setting.apply_fn, paths.line(setting.a, setting.b), setting.stream,
            labels=on, alphas=alphas, sigmas=[0.0, 0.01, 0.02, 0.05], key=jax.random.key(0),
            num_draws=1, modules=modules,
        )  # fmt: skip
        return found.losses

    found = timing.ratio(ours, _forwards(setting, len(modules) * 4 * len(alphas)), repeats=repeats)
    facts = {**setting.facts, "modules": len(modules), "points": 4 * len(alphas)}
    timing.emit(benchmark="criticality_over_forwards", aim=0.5, **found, **facts)


def tricks(setting: Setting, points: int, repeats: int) -> None:
    """Other ways to the same numbers, each over the same forward passes."""
    on, modules = _modules(setting)
    path_fn = paths.line(setting.a, setting.b)
    alphas = np.linspace(0, 1, points, dtype=np.float32)
    sweep = functools.partial(
        sweeps.evaluate_modules, setting.apply_fn, METRIC, path_fn, alphas, setting.b, on,
        setting.stream, modules=modules,
    )  # fmt: skip

    def whole():
        return [
            evaluate_path(
                setting.apply_fn, METRIC, paths.spliced(path_fn, setting.b, on, module), alphas,
                setting.stream, chunk=1,
            )
            for module in modules
        ]  # fmt: skip

    loops = [_loop(setting, paths.spliced(path_fn, setting.b, on, m)) for m in modules]
    ways = {
        "cut at the module": sweep,
        "whole forward passes": whole,
        "one loop, the rest closed over": lambda: [loop(alphas) for loop in loops],
        "cut at the module, chunks of 4": functools.partial(sweep, chunk=4),
    }
    bound = _forwards(setting, len(modules) * points)
    for way, call in ways.items():
        found = timing.ratio(call, bound, repeats=repeats)
        facts = {**setting.facts, "way": way, "modules": len(modules), "points": points}
        timing.emit(benchmark="sweep_over_forwards", aim=0.5, **found, **facts)


def _loop(setting: Setting, path_fn):
    """One compiled loop over points: XLA may move out of it what does not depend on the point."""
    batches = [jax.device_put(dict(batch)) for batch in setting.stream()]

    @jax.jit
    def on_batch(alphas, batch):
        def one(alpha):
            outputs = setting.apply_fn(path_fn(alpha), batch["inputs"])
            return METRIC.update(METRIC.init(), outputs, batch)

        return jax.lax.map(one, alphas)

    return lambda alphas: [on_batch(alphas, batch) for batch in batches]


def memory() -> None:
    """Peak memory of a sweep at several numbers of points, each in a process of its own."""
    counts = [4, 64]
    peaks = [_in_process(points) for points in counts]
    timing.emit(
        benchmark="sweep_peak_memory_by_points", ratio=round(peaks[1] / peaks[0], 3), aim=1.05,
        net="fixup_resnet18", points=counts, mib=[round(p / 2**20) for p in peaks],
    )  # fmt: skip


def _in_process(points: int) -> int:
    command = [sys.executable, "-m", "tests.benchmarks.modules", "--peak-memory", str(points)]
    # glibc keeps freed blocks below a threshold that it raises as it goes: 10 % by chance
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    return int(found.stdout)


def _peak_of_a_sweep(points: int) -> int:
    setting = Setting("fixup_resnet18", "float32", 64)
    on, modules = _modules(setting)
    alphas = np.linspace(0, 1, points, dtype=np.float32)
    found = sweeps.evaluate_modules(
        setting.apply_fn, METRIC, paths.line(setting.a, setting.b), alphas, setting.b, on,
        setting.stream, modules=modules[-3:],
    )  # fmt: skip
    jax.block_until_ready(found)
    return timing.memory_bytes("peak")


def _modules(setting: Setting):
    return partition.by_depth(setting.a, 1), setting.module.module_names


def _forwards(setting: Setting, points: int):
    batches = [jax.device_put(batch["inputs"]) for batch in setting.stream()]
    forward = jax.jit(setting.apply_fn)
    return lambda: [forward(setting.a, x) for _ in range(points) for x in batches]


if __name__ == "__main__":
    main()
