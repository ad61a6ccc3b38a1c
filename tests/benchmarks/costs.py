"""What analyses cost on 8 to 4,096 devices, by formulas.

    python -m tests.benchmarks.costs            # the tables of docs/guides/scale.md
    python -m tests.benchmarks.costs --check    # the formulas beside compiled programs

A program (a batch at a point, a product with the Hessian) has its flops, the numbers that are
gathered and summed among devices, and the memory of a device; an analysis is programs, so and so
many times. Numbers are float32.
"""

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

from tests.benchmarks.costs_nets import Net, decoder, resnet50, vit
from tlx.core import paths

FLOAT = 4
GROUP = 256 * 2**20
"""Bytes of batches that a path keeps on the devices."""


class Mesh(NamedTuple):
    """Devices along each axis."""

    data: int = 1
    points: int = 1
    model: int = 1

    @property
    def rows(self) -> int:
        """The devices over which the rows of a batch are split."""
        return self.data * self.model

    def share(self, rows: int) -> int:
        """The rows of a device; all where the devices do not divide them."""
        return rows if rows % self.rows else rows // self.rows


class Program(NamedTuple):
    """A compiled program on one of its devices.

    Attributes:
      flops: of matrix products and convolutions.
      gathered: numbers in all-gathers over `model`, as each device has them afterwards.
      summed: numbers in sums over rows' devices, whose results are split over `model`.
      reduced: likewise, of which each device has all.
      exchanged: numbers that rows' devices exchange, as a device receives them.
      memory: bytes of arguments, results and what is between them.
    """

    flops: float
    gathered: float = 0
    summed: float = 0
    reduced: float = 0
    exchanged: float = 0
    memory: float = 0

    def received(self, mesh: Mesh) -> tuple[float, float]:
        """Bytes that a device receives over `model` and over `data`, from a ring."""
        d, m, r = mesh.data, mesh.model, mesh.rows
        over_model = (self.gathered + self.summed) * (m - 1) / m
        over_data = 2 * (d - 1) / d * self.summed / m
        others = (2 * self.reduced + self.exchanged) * (r - 1) / r
        if d == 1:
            over_model += others
        else:
            over_data += others
        return FLOAT * over_model, FLOAT * over_data


def points(net: Net, mesh: Mesh, rows: int) -> Program:
    """A batch at as many points of a path as the mesh has: one a device."""
    b = mesh.share(rows)
    memory = net.params / mesh.model + b * (net.live + net.example) + _layer(net, mesh)
    return Program(b * net.flops, _split(net, mesh), memory=FLOAT * memory)


def formed(net: Net, mesh: Mesh, rows: int) -> Program:
    """A point of a line: both ends and the point. a + t·(b − a), and exact ends: 7 operations."""
    del rows
    own = net.params / mesh.model
    return Program(7 * own, memory=FLOAT * 3 * own)


def apart(net: Net, mesh: Mesh, rows: int) -> Program:
    """Inner products of two models and their difference: about 40 operations a number."""
    del rows
    own = net.params / mesh.model
    return Program(40 * own, memory=FLOAT * (2 * own + 3 * net.largest / mesh.model))


def training(net: Net, mesh: Mesh, rows: int) -> Program:
    """A step of AdamW: weights and two averages, which it replaces, and the gradient."""
    b = mesh.share(rows)
    flops = b * (3 * net.flops - net.first + net.again)
    passes = 2 if net.remat else 1  # without, what is gathered is kept for the way back
    kept = _layer(net, mesh) if net.remat else _split(net, mesh)
    memory = 4 * net.params / mesh.model + b * (net.kept + net.example) + kept
    return Program(flops, passes * _split(net, mesh), net.params, memory=FLOAT * memory)


def product(net: Net, mesh: Mesh, rows: int) -> Program:
    """The Hessian of a batch times a vector, forward over reverse.

    A product with weights takes 1 for the value, 2 for its tangent, 1 for the derivative in its
    inputs and 4 for the tangents of both derivatives; one of activations takes 9. Of what a
    gradient keeps there are four: values, derivatives, and the tangents of both.
    """
    b = mesh.share(rows)
    flops = b * (8 * net.linear + 9 * net.attention - 3 * net.first + 3 * net.again)
    passes = 2 * (2 if net.remat else 1)  # weights and vector
    kept = 2 * (_layer(net, mesh) if net.remat else _split(net, mesh))
    memory = 4 * net.params / mesh.model + b * (4 * net.kept + net.example) + kept
    return Program(flops, passes * _split(net, mesh), net.params, memory=FLOAT * memory)


def cka(net: Net, mesh: Mesh, rows: int) -> Program:
    """A batch of the debiased CKA of all pairs of layers of two models, from Gram matrices.

    A device receives all rows of its share of a layer's features, and the sum of Gram matrices.
    """
    b, num, dims = mesh.share(rows), len(net.layers), sum(net.layers)
    flops = 2 * b * net.flops + 4 * b * rows * dims + 2 * num**2 * rows**2
    is_split = b < rows
    memory = 2 * net.params / mesh.model + b * (2 * dims + net.live + net.example)
    memory += 4 * num * rows**2 + _layer(net, mesh)
    return Program(
        flops,
        2 * _split(net, mesh),
        reduced=2 * num * rows**2 if is_split else 0,
        exchanged=2 * b * dims if is_split else 0,
        memory=FLOAT * memory,
    )


def noise(net: Net, mesh: Mesh, rows: int) -> Program:
    """A draw of noise, whole on each device: a large leaf at a time, smaller ones at once.

    For CPUs, whose fusions compute again what they share, 90 operations a number in the decoder's
    program and 6,700 in ViT's, where leaves are cut from one array.
    """
    del rows
    is_large = net.largest >= paths.ALONE
    drawn = 4 * net.largest if is_large else 4 * net.params
    own = net.params / mesh.model
    return Program((90 if is_large else 6700) * net.params, memory=FLOAT * (own + drawn))


PROGRAMS = {f.__name__: f for f in (points, formed, apart, training, product, cka, noise)}


def _split(net: Net, mesh: Mesh) -> float:
    """The weights that a pass gathers."""
    return net.params if mesh.model > 1 else 0


def _layer(net: Net, mesh: Mesh) -> float:
    """Layers that are whole at a time: the one at work and the next."""
    return 2 * net.largest if mesh.model > 1 else 0


class Task(NamedTuple):
    """What is asked of a network.

    Attributes:
      net: the network.
      model: devices over which the weights are split.
      examples: N.
      rows: of a batch; None: one on each device.
      cka_rows: of a batch for CKA; likewise.
    """

    net: Net
    model: int
    examples: int
    rows: int | None
    cka_rows: int | None


POINTS, DRAWS, ORDER = 32, 5, 20
"""Points of a line and of criticality's grid, draws of its noise, and eigenvalues."""

DEVICES = (8, 64, 512, 4096)

TASKS = (
    Task(resnet50(), 1, 40_960, 4096, 512),
    Task(vit(), 1, 40_960, 4096, 512),
    Task(decoder(), 8, 4096, None, None),
)


class Cost(NamedTuple):
    """An analysis on one device: flops, bytes received over `model` and `data`, bytes held."""

    flops: float
    over_model: float
    over_data: float
    memory: float


def _sum(mesh: Mesh, parts: list[tuple[float, Program]], held: float) -> Cost:
    """Programs by how often they run, and the bytes that are held besides."""
    over_model, over_data = (
        sum(times * part.received(mesh)[side] for times, part in parts) for side in (0, 1)
    )
    flops = sum(times * part.flops for times, part in parts)
    return Cost(flops, over_model, over_data, held + max(part.memory for _, part in parts))


def analyses(task: Task, devices: int) -> dict[str, Cost]:
    """The cost of each analysis on so many devices."""
    net, m = task.net, task.model
    at_once = min(POINTS, devices // m)
    all_rows, all_points = Mesh(devices // m, 1, m), Mesh(devices // m // at_once, at_once, m)
    turns = math.ceil(POINTS / at_once)
    own = FLOAT * net.params / m

    def run(program: Callable[..., Program], mesh: Mesh, rows: int | None) -> Program:
        return program(net, mesh, rows or mesh.rows)

    def batches(mesh: Mesh, rows: int | None) -> float:
        return max(1, task.examples / (rows or mesh.rows))

    line, at = run(points, all_points, task.rows), run(formed, all_points, 0)
    of_line = batches(all_points, task.rows)
    groups = math.ceil(FLOAT * task.examples * net.example / GROUP)
    group = min(GROUP, FLOAT * task.examples * net.example) / all_points.rows
    critical = DRAWS * of_line
    drawn = run(noise, all_points, 0)
    second = run(product, all_rows, task.rows)
    of_all = batches(all_rows, task.rows)
    return {
        "training step, AdamW": _sum(all_rows, [(1, run(training, all_rows, task.rows))], 0),
        f"line of {POINTS} points": _sum(
            all_points, [(turns * of_line, line), (turns * min(groups, of_line), at)],
            3 * own + group,
        ),
        "distances by module": _sum(all_rows, [(1, run(apart, all_rows, 0))], 0),
        "CKA of all pairs of layers": _sum(
            all_rows, [(batches(all_rows, task.cka_rows), run(cka, all_rows, task.cka_rows))], 0
        ),
        f"criticality, {POINTS} points, {DRAWS} draws": _sum(
            all_points,
            [(critical * (1 + turns * net.after), line), (critical * turns, at), (DRAWS, drawn)],
            3 * own,
        ),
        "product with the Hessian": _sum(all_rows, [(of_all, second)], own),
        f"{ORDER} eigenvalues": _sum(all_rows, [(ORDER * of_all, second)], own),
        "predictions of two models": _sum(
            all_rows, [(2 * of_all, run(points, all_rows, task.rows))], own
        ),
    }  # fmt: skip


def table(task: Task) -> str:
    """The costs of a network as a table of the page."""
    of_devices = [analyses(task, devices) for devices in DEVICES]
    head = "| " + " | ".join(["", *(f"{devices:,} devices" for devices in DEVICES)]) + " |"
    rows = [head, "|---" * (1 + len(DEVICES)) + "|"]
    for name in of_devices[0]:
        cells = [_cell(task, costs[name]) for costs in of_devices]
        rows.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(rows)


def _cell(task: Task, cost: Cost) -> str:
    received = short(cost.over_data)
    if task.model > 1:
        received = f"{short(cost.over_model)} + {received}"
    return f"{short(cost.flops)}, {received}, {short(cost.memory)}"


def short(number: float) -> str:
    """Three digits and a unit: 0, 12.3 M, 4.56 T."""
    if number < 1000:
        return f"{number:.0f}"
    power = min(int(math.log10(number * 1.0005) / 3), 6)
    return f"{number / 1000**power:.3g} {'_kMGTPE'[power]}"


def facts() -> str:
    """The networks by their numbers, as a table of the page."""
    rows = [
        "| | P | F | kept for a gradient | alive in a forward pass | layers | modules |",
        "|---" * 7 + "|",
    ]
    for net in (task.net for task in TASKS):
        numbers = net.params, net.flops, FLOAT * net.kept, FLOAT * net.live
        counts = len(net.layers), len(net.modules)
        cells = [net.name, *map(short, numbers), *map(str, counts)]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def tables() -> list[str]:
    """All tables that the page has from here."""
    return [facts(), *map(table, TASKS)]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.costs",
        description="What analyses cost on 8 to 4,096 devices, by formulas: the tables of "
        "docs/guides/scale.md. With --check the formulas beside programs that are compiled for "
        "1 to 8 simulated devices and not run, some of which take minutes.",
    )
    parser.add_argument("--check", nargs="*", metavar="NET", help="all networks, or these")
    given = parser.parse_args()
    if given.check is None:
        print("\n\n".join(tables()))
        return
    from tests.benchmarks import costs_check  # needs jax, and says so to it first

    costs_check.main(given.check)


if __name__ == "__main__":
    main()
