"""What the landscape analyses cost: `python -m tests.benchmarks.landscape`.

Prints a line of JSON for each benchmark: a ratio (median of interleaved pairs), its aim, and the
seconds of both sides. On an accelerator a line's also has the share of the device's peak, which a
large matrix product measures in the same run. With PyTorch
(`pip install '.[benchmark]'`) the line is also made the authors' way: load a state dict
for each point, pass over the data.
"""

import argparse
import functools
import io
import json
import math
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks import timing
from tlx import models
from tlx.adapters import linen
from tlx.analyses.landscape import curvature, interpolation, planes
from tlx.core import evaluation, graph, metrics, streams

POINTS = 21
BATCH = 64
NETS = {
    "small": {
        "name": "fixup_resnet",
        "width": 16,
        "stage_sizes": (1, 1, 1),
        "stem": "small",
    },
    "fixup_resnet18": {"name": "fixup_resnet18"},
}
SIDES = {"small": 32, "fixup_resnet18": 64}
BENCHMARKS = ("line", "torch", "width", "memory", "plane", "lanczos")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    parser.add_argument("--net", nargs="+", choices=NETS, default=tuple(NETS))
    parser.add_argument("--dtype", nargs="+", default=("float32",), help="of the computation")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7, help="pairs of runs a ratio")
    parser.add_argument("--peak-memory", type=int, metavar="POINTS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_memory:
        print(_peak_of_a_line(args.peak_memory))
        return
    evaluation.PATIENCE_SECONDS = 0.0  # "auto" has chosen before anything is timed
    for dtype in args.dtype:
        for net in args.net:
            setting = functools.partial(Setting, net, dtype, args.images)
            if "line" in args.only:
                line(setting(), args.repeats)
            if "width" in args.only:
                width(setting(), args.repeats)
            if "torch" in args.only and dtype == "float32":
                against_torch(setting(), args.repeats)
    if "memory" in args.only:
        memory()
    small = Setting("small", "float32", args.images)
    if "plane" in args.only:
        plane(small, max(1, args.repeats // 2))
    if "lanczos" in args.only:
        lanczos(small, 90)


class Setting:
    """A net, two models of it, encoded and decoded images."""

    def __init__(self, net: str, dtype: str, images: int) -> None:
        side = SIDES[net]
        self.module = models.make(num_classes=10, head_init="uniform", dtype=dtype, **NETS[net])
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 256, (images, side, side, 3), np.uint8)
        self.labels = rng.integers(0, 10, images)
        inputs = normalised(self.pixels)
        init = jax.jit(self.module.init)
        self.a, self.b = (dict(init(jax.random.key(seed), inputs[:1])) for seed in range(2))
        self.apply_fn, _ = linen.adapt(self.module, self.a)
        self.stream = streams.from_arrays(inputs, self.labels, batch_size=BATCH)
        self.facts = {"net": net, "dtype": dtype, "images": images, "batch": BATCH}
        self.facts["device"] = jax.devices()[0].device_kind


def normalised(pixels: np.ndarray) -> np.ndarray:
    return (pixels.astype(np.float32) - 127.5) / 64


def line(setting: Setting, repeats: int) -> None:
    """A point of a line over a bare jitted forward pass on the same batches."""
    counted = Counting(setting.stream)
    batches = [jax.device_put(b["inputs"]) for b in setting.stream()]
    forward = jax.jit(setting.apply_fn)
    alphas = np.linspace(0, 1, POINTS, dtype=np.float32)

    def ours():
        return interpolation.line(
            setting.apply_fn, metrics.classification(), setting.a, setting.b, counted,
            alphas=alphas,
        ).results  # fmt: skip

    def bare():
        return [forward(setting.a, x) for _ in range(POINTS) for x in batches]

    found = timing.ratio(ours, bare, repeats=repeats)
    counted.passes = counted.batches = 0
    ours()
    facts = {**setting.facts, "points": POINTS, "passes_over_data": counted.passes}
    facts["batches_read"] = counted.batches
    if jax.devices()[0].platform != "cpu":
        flops = _flops(setting.apply_fn, setting.a, batches[0])
        rate = POINTS * len(batches) * flops / found["seconds"]
        peak = _peak_flops(setting.facts["dtype"])
        facts |= {"share_of_peak": round(rate / peak, 4), "peak_tflops": round(peak / 1e12, 1)}
    timing.emit(benchmark="line_point_over_forward", aim=1.03, **found, **facts)


def width(setting: Setting, repeats: int) -> None:
    """A line at a vector width over the same line one point at a time, and what "auto" takes."""
    batch = jax.device_put(next(setting.stream()))
    chosen = evaluation.fastest_width(
        setting.apply_fn, metrics.classification(), setting.a, batch, POINTS
    )

    def ours(chunk: int):
        return interpolation.line(
            setting.apply_fn, metrics.classification(), setting.a, setting.b, setting.stream,
            alphas=np.linspace(0, 1, 16, dtype=np.float32), chunk=chunk,
        ).results  # fmt: skip

    for chunk in (2, 4, 8, 16) if jax.devices()[0].platform != "cpu" else (2, 4):
        found = timing.ratio(
            functools.partial(ours, chunk), functools.partial(ours, 1), repeats=repeats
        )
        facts = {**setting.facts, "points": 16, "width": chunk, "fastest_width": chosen}
        timing.emit(benchmark="line_at_width_over_1", aim=1.0, **found, **facts)


class Counting:
    """A stream that counts how often it is started and what is read."""

    def __init__(self, stream) -> None:
        self.stream, self.passes, self.batches = stream, 0, 0

    def __call__(self):
        self.passes += 1
        for batch in self.stream():
            self.batches += 1
            yield batch


def _flops(apply_fn, params, inputs) -> float:
    """Of the products and convolutions of a forward pass: 2 for each multiplication."""
    total = 0
    ops = list(graph.trace(apply_fn, params, inputs).ops)
    while ops:
        op = ops.pop()
        if op.inner is not None:
            ops += op.inner.ops
        elif op.name in ("dot_general", "conv_general_dilated"):
            kernel = graph.shape(op.inputs[1])
            if op.name == "dot_general":
                summed = [kernel[i] for i in op.params["dimension_numbers"][0][1]]
            else:
                out_axis = op.params["dimension_numbers"].rhs_spec[0]
                summed = [n for i, n in enumerate(kernel) if i != out_axis]
            total += 2 * math.prod(graph.shape(op.outputs[0])) * math.prod(summed)
    return total


def _peak_flops(dtype: str) -> float:
    """Of a product of two 8192×8192 matrices of this dtype, as jax does it by default."""
    n = 8192
    x = jax.random.normal(jax.random.key(0), (n, n), jnp.dtype(dtype))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(x, x))
    times = [timing.seconds(lambda: product(x, x)) for _ in range(10)]
    return 2 * n**3 / min(times)


def against_torch(setting: Setting, repeats: int) -> None:
    """Our line over the authors' way in PyTorch; images decoded from PNG, and as arrays."""
    try:
        import torch

        from tests.benchmarks import torch_line
    except ImportError:
        print("skipped: pip install '.[benchmark]' for PyTorch", file=sys.stderr)
        return
    encoded = [png(image) for image in setting.pixels]
    alphas = np.linspace(0, 1, POINTS, dtype=np.float32)
    theirs = torch_line.Line(torch, setting, encoded)

    def decoding():
        for start in range(0, len(encoded), BATCH):
            pixels = np.stack([decoded(x) for x in encoded[start : start + BATCH]])
            rows = {"inputs": normalised(pixels), "labels": setting.labels[start : start + BATCH]}
            yield streams.pad_batch(rows, BATCH)

    for decode in (True, False):

        def ours(decode=decode):
            return interpolation.line(
                setting.apply_fn, metrics.classification(), setting.a, setting.b,
                decoding if decode else setting.stream, alphas=alphas,
            ).results["loss"]  # fmt: skip

        theirs_now = functools.partial(theirs.losses, alphas, decode)
        difference = float(np.abs(np.asarray(ours()) - theirs_now()).max())
        assert difference < 1e-2, f"the losses along the two lines differ by {difference}"
        found = timing.ratio(ours, theirs_now, repeats=max(1, repeats // 2))
        facts = {"points": POINTS, "decode": decode, "largest_difference": difference}
        timing.emit(benchmark="line_over_torch", aim=1.0, **found, **facts, **setting.facts)


def png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)))


def memory() -> None:
    """Peak memory of a process that makes a line of 161 points over one of 5 points."""
    found = {}
    for points in (5, 161):
        command = [sys.executable, "-m", "tests.benchmarks.landscape", "--peak-memory", str(points)]
        found[points] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    few, many = found.values()
    facts = {"net": "fixup_resnet18", "points": tuple(found), "mib": (few >> 20, many >> 20)}
    timing.emit(benchmark="peak_memory_by_points", ratio=round(many / few, 3), aim=1.05, **facts)


def _peak_of_a_line(num_points: int) -> int:
    setting = Setting("fixup_resnet18", "float32", 8)
    alphas = np.linspace(0, 1, num_points, dtype=np.float32)
    found = interpolation.line(
        setting.apply_fn, metrics.classification(), setting.a, setting.b, setting.stream,
        alphas=alphas,
    )  # fmt: skip
    jax.block_until_ready(found.results)
    return timing.memory_bytes("peak")


def plane(setting: Setting, repeats: int) -> None:
    """A plane of 21×21 points through three models over as many bare forward passes."""
    c = setting.module.init(jax.random.key(2), jnp.zeros((1, 32, 32, 3)))
    through = planes.through(setting.a, setting.b, dict(c))
    xs, ys = planes.cover(through.coordinates, num=21)
    batches = [jax.device_put(b["inputs"]) for b in setting.stream()]
    forward = jax.jit(setting.apply_fn)

    def ours():
        return planes.grid(
            setting.apply_fn, metrics.classification(), through.path_fn, setting.stream,
            xs=xs, ys=ys,
        ).results  # fmt: skip

    def bare():
        return [forward(setting.a, x) for _ in range(21 * 21) for x in batches]

    found = timing.ratio(ours, bare, repeats=repeats)
    facts = {**setting.facts, "points": 21 * 21}
    timing.emit(benchmark="plane_point_over_forward", aim=1.03, **found, **facts)


def lanczos(setting: Setting, order: int) -> None:
    """Lanczos of an order over as many bare products, and the memory it needs."""
    operator = curvature.hessian(
        setting.apply_fn, metrics.softmax_cross_entropy, setting.a, setting.stream
    )
    vector = jnp.ones(operator.size, jnp.float32) / np.sqrt(operator.size)
    jax.block_until_ready(operator.product(vector))
    before = timing.memory_bytes("peak")
    start = time.perf_counter()
    found = curvature.eigenvalues(operator, order=order, key=jax.random.key(0))
    seconds = time.perf_counter() - start
    grown = timing.memory_bytes("peak") - before
    bare = timing.seconds(lambda: [operator.product(vector) for _ in range(order)])
    facts = {**setting.facts, "order": order, "parameters": operator.size}
    facts |= {"seconds": round(seconds, 2), "bound_seconds": round(bare, 2)}
    facts |= {"grown_mib": grown >> 20, "basis_mib": 4 * order * operator.size >> 20}
    facts["largest"] = float(found.values[0])
    timing.emit(benchmark="lanczos_over_products", ratio=round(seconds / bare, 3), aim=1.1, **facts)


if __name__ == "__main__":
    main()
