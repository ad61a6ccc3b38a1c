"""The page of costs is what its script says, and its formulas are what small programs do."""

from pathlib import Path

import jax
import numpy as np
import pytest

from tests.benchmarks import costs, costs_check, costs_nets, costs_programs

PAGE = Path("docs/guides/scale.md").read_text()
SMALL = {
    "decoder": costs_check.Case(
        costs_nets.decoder(2, 128, 256, 2, 512, 32),
        costs_programs.decoder(2, 128, 256, 2, 512, 32),
        8,
    ),
    "vit": costs_check.Case(
        costs_nets.vit(32, 8, 128, 2, 2, 16),
        costs_programs.image_model("vit", 32, 16, patch=8, width=128, depth=2, heads=2, grid=4),
        8,
    ),
}


def test_the_page_has_the_tables_of_the_formulas():
    for table in costs.tables():
        assert table in PAGE


def test_what_the_page_compares_are_the_formulas():
    nets = {
        "resnet50": (costs_nets.resnet50(), 16),
        "vit_b16": (costs_nets.vit(), 16),
        "decoder_2_layers": (costs_nets.decoder(2), 8),
    }
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines()]
    rows = [cells for cells in rows if cells[0] in nets]
    assert len(rows) >= 3 * 10
    for name, program, shape, *cells in rows:
        mesh = costs.Mesh(*map(int, shape.split(" × ")))
        expected = costs.PROGRAMS[program](nets[name][0], mesh, nets[name][1])
        numbers = expected.flops, costs_check.moved(expected, mesh), expected.memory
        predicted = [cell.split(" / ")[0] for cell in cells[::2]]
        assert predicted == [costs.short(number) for number in numbers]


@pytest.mark.parametrize(("name", "size"), [("resnet50", None), ("vit_b16", None), ("7b", 32)])
def test_parameters_are_counted(name, size):
    if size:
        net = costs_nets.decoder(size)
        model = costs_programs.decoder(size, 4096, 11008, 32, 32000, 2048)
    else:
        net = {"resnet50": costs_nets.resnet50, "vit_b16": costs_nets.vit}[name]()
        model = costs_programs.image_model(name)
    assert net.params == sum(int(np.prod(x.shape)) for x in jax.tree.leaves(model.params))


@pytest.mark.parametrize(
    ("name", "program", "mesh"),
    [
        ("vit", "points", "one"),
        ("vit", "training", "data"),
        ("vit", "product", "one"),
        ("decoder", "points", "model"),
        ("decoder", "training", "one"),
        ("decoder", "cka", "model"),
        ("decoder", "formed", "model"),
    ],
)
def test_small_programs_do_what_the_formulas_say(name, program, mesh):
    found = costs_check.line(name, SMALL[name], program, costs_check.MESHES[mesh])
    for (expected, got), (least, most) in zip(
        found[3:],
        ((0.98, 1.12), (0.8, 1.01), (0.65, 1.4)),  # flops, numbers moved, bytes
        strict=True,
    ):
        assert least * expected <= got <= most * expected, costs_check.row(found)
