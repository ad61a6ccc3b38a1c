"""Formulas of costs beside programs that are compiled for simulated devices, and not run."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax

from tests.benchmarks import costs, costs_nets, costs_programs
from tests.helpers import compiled
from tlx.core import sharding

OPTIONS = {
    # little is optimised, since nothing is run; and what is not needed soon is not computed yet:
    # by default XLA for CPUs begins with all that it can, such as the gathers of all layers
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
}


class Case(NamedTuple):
    """A network by hand and as a program, and the rows of a batch."""

    net: costs_nets.Net
    model: costs_programs.Model
    rows: int


class Line(NamedTuple):
    """A program: what the formulas say and what the compiled one does, on one device."""

    net: str
    program: str
    mesh: costs.Mesh
    flops: tuple[float, float]
    moved: tuple[float, float]
    memory: tuple[float, float]


def cases(layers: int) -> dict[str, Case]:
    """The networks of the page, the decoder with fewer layers of its full width."""
    net = costs_nets.decoder(layers)
    plain = costs_programs.decoder(layers, 4096, 11008, 32, 32000, 2048)
    resnet, vit = (costs_programs.image_model(name) for name in ("resnet50", "vit_b16"))
    return {
        "resnet50": Case(costs_nets.resnet50(), resnet, 16),
        "vit_b16": Case(costs_nets.vit(), vit, 16),
        f"decoder_{layers}_layers": Case(net, plain, 8),
    }


def line(name: str, case: Case, program: str, mesh: costs.Mesh) -> Line:
    """One program."""
    devices = jax.devices()[: mesh.data * mesh.points * mesh.model]
    made = sharding.make_mesh(devices, points=mesh.points, model=mesh.model)
    expected = costs.PROGRAMS[program](case.net, mesh, case.rows)
    found = getattr(costs_programs, program)(case.model, made, case.rows).compile(OPTIONS)
    return Line(
        name,
        program,
        mesh,
        (expected.flops, compiled.flops(found)),
        (moved(expected, mesh), sum(sum(c.sizes) for c in compiled.collectives(found))),
        (expected.memory, compiled.peak_bytes(found)),
    )


def moved(program: costs.Program, mesh: costs.Mesh) -> float:
    """The numbers in all collectives of a program."""
    summed = program.summed if mesh.rows > 1 else 0
    return program.gathered + summed + program.reduced + program.exchanged


MESHES = {
    "one": costs.Mesh(),
    "data": costs.Mesh(data=2),
    "model": costs.Mesh(model=4),
    "all": costs.Mesh(2, 2, 2),
}
TRIED = {
    "points": ("one", "data", "model", "all"),
    "training": ("one", "data", "model"),
    "product": ("one", "data", "model"),
    "cka": ("one", "data", "model"),
    "formed": ("all",),
    "apart": ("model",),
    "noise": ("model",),
}


def lines(chosen: dict[str, Case]) -> Iterator[Line]:
    """All programs of some networks."""
    for (name, case), (program, meshes) in itertools.product(chosen.items(), TRIED.items()):
        for mesh in meshes:
            yield line(name, case, program, MESHES[mesh])


HEAD = """\
| network | program | data × points × model | flops | | numbers moved | | bytes held | |
|---|---|---|---|---|---|---|---|---|"""


def row(found: Line) -> str:
    """A row of the table: predicted, compiled, and their ratio."""
    cells = []
    for expected, got in found[3:]:
        ratio = f"{got / expected:.2f}" if expected else ""
        cells.append(f"{costs.short(expected)} / {costs.short(got)} | {ratio}")
    mesh = " × ".join(map(str, found.mesh))
    return f"| {found.net} | {found.program} | {mesh} | {' | '.join(cells)} |"


LAYERS = 2
"""Of the decoder; all others are like them."""


def main(names: list[str]) -> None:
    """Prints the table of the page, row by row."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    known = cases(LAYERS)
    for name in set(names) - set(known):
        raise SystemExit(f"expected networks among {', '.join(known)}, got {name}")
    print(HEAD)
    for found in lines({name: known[name] for name in names or known}):
        print(row(found), flush=True)
