"""The mutations fit the code as it is; `python -m tests.mutation` runs them."""

import ast

import pytest

from tests.mutation.mutations import ROOT, Mutation
from tests.mutation.tables import MUTATIONS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.file}:{m.new}")
def test_it_fits(mutation: Mutation):
    ast.parse(mutation.mutated())
    for path in mutation.paths:
        file, _, test = path.partition("::")
        assert f"def {test.partition('[')[0]}" in (ROOT / file).read_text()


def test_they_differ_and_reach_every_package():
    assert len({(m.file, m.old, m.new) for m in MUTATIONS}) == len(MUTATIONS) >= 100
    packages = {m.file.partition("/")[0] for m in MUTATIONS}
    assert packages >= {"core", "analyses", "checkpoints", "data", "records", "report", "studies",
                        "train"}  # fmt: skip
    assert sum(bool(m.reason) for m in MUTATIONS) <= 3
