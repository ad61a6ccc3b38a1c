"""The memory that the similarity of all pairs of layers needs; see `tests.benchmarks.similarity`.

Each is found by a process of its own: `python -m tests.benchmarks.similarity_memory WHAT SIZE`.
"""

import functools
import json
import os
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path

import jax
import jax.numpy as jnp

from tests.benchmarks import timing
from tests.benchmarks.similarity_nets import Setting, normal
from tlx.analyses.features.similarity import cka_matrix
from tlx.core import streams


def run(quick: bool) -> None:
    """Peak memory by the number of examples and by the batch; a million examples."""
    few, many = (256, 512) if quick else (4096, 32768)
    peaks = [_peak("examples", n) for n in (few, many)]
    facts = {"net": "fixup_resnet18", "images": (few, many), "mib": [p >> 20 for p in peaks]}
    ratio = round(peaks[1] / peaks[0], 3)
    timing.emit(benchmark="cka_peak_memory_by_examples", ratio=ratio, aim=1.05, **facts)

    million = _peak("million", 20_000 if quick else 1_000_000)
    timing.emit(benchmark="cka_peak_memory_of_a_million", aim=1.05, **million)

    batches = (64, 128) if quick else (64, 128, 256, 512)
    grown = [_peak("batch", batch) for batch in batches]
    grams = [2 * LAYERS * batch**2 * 4 for batch in batches]
    bounds = [g + 2 * LAYERS * batch * WIDTH * 4 for g, batch in zip(grams, batches, strict=True)]
    facts = {"layers": (LAYERS, LAYERS), "width": WIDTH, "batches": batches}
    facts |= {"mib": [g >> 20 for g in grown], "layers_times_batch2_mib": [g >> 20 for g in grams]}
    facts |= {"with_features_mib": [b >> 20 for b in bounds]}
    ratio = round(grown[-1] / bounds[-1], 2)
    timing.emit(benchmark="cka_memory_over_bound", ratio=ratio, aim=2.0, **facts)


def _peak(what: str, size: int):
    """What a fresh process finds; see `PEAKS`."""
    command = [sys.executable, "-m", "tests.benchmarks.similarity_memory", what, str(size)]
    # large blocks go back to the system when freed, so that what is current is what is used
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env)
    return json.loads(found.stdout)


def _peak_by_examples(images: int) -> int:
    setting = Setting("fixup_resnet18", "inner", 128, 128)
    jax.block_until_ready(setting.cka().values)
    setting.stream = functools.partial(_random_stream, images, (32, 32, 3), 128)
    return _grown(lambda: setting.cka().values)[1]


def _peak_of_many(examples: int) -> dict:
    """The peak after all over that after a hundredth of the examples."""
    seen = []

    def watched():
        for i, batch in enumerate(_random_stream(examples, (64,), 512)):
            if i == max(10, examples // 512 // 100):  # compiled, and in its stride
                seen.append(timing.memory_bytes("peak"))
            yield batch

    params = [jnp.asarray(normal(seed, 64, 64) / 8) for seed in range(2)]
    start = time.perf_counter()
    found = cka_matrix.cka_matrix(_dense, params[0], _dense, params[1], watched)
    num_examples = int(found.num_examples)  # waits
    seconds, peak = time.perf_counter() - start, timing.memory_bytes("peak")
    facts = {"examples": num_examples, "layers": 3, "batch": 512}
    facts |= {"left_out": int(found.num_left_out), "mib": (seen[0] >> 20, peak >> 20)}
    return {"ratio": round(peak / seen[0], 3), "seconds": round(seconds, 1), **facts}


def _grown_by_batch(batch: int) -> int:
    params = [jnp.asarray(normal(seed, 16, WIDTH)) for seed in range(2)]
    stream = functools.partial(_random_stream, 4 * batch, (16,), batch)

    def values():
        return cka_matrix.cka_matrix(_many, params[0], _many, params[1], stream).values

    jax.block_until_ready(values())
    before, peak = _grown(values)
    return peak - before


def _grown(call) -> tuple[int, int]:
    """The memory before a call and its peak. Compile before: that needs more than the call."""
    before = timing.memory_bytes("current")
    if jax.default_backend() == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    jax.block_until_ready(call())
    return before, timing.memory_bytes("peak")


PEAKS = {"examples": _peak_by_examples, "million": _peak_of_many, "batch": _grown_by_batch}
LAYERS, WIDTH = 100, 256  # of `_grown_by_batch`: so wide that Gram matrices are the smaller form


def _random_stream(examples: int, shape: tuple[int, ...], batch: int):
    for i, start in enumerate(range(0, examples, batch)):
        rows = {"inputs": normal(i, min(batch, examples - start), *shape)}
        yield streams.pad_batch(rows, batch)


def _dense(w, x):
    hidden = jnp.tanh(x @ w)
    return OrderedDict(inputs=x, hidden=hidden, out=jnp.maximum(hidden @ w, 0))


def _many(w, x):
    return OrderedDict((str(i), jnp.tanh(x @ w * (1 + i))) for i in range(LAYERS))


if __name__ == "__main__":
    print(json.dumps(PEAKS[sys.argv[1]](int(sys.argv[2]))))
