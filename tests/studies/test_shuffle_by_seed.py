"""A study in which each replicate has its own shuffle."""

import io

import numpy as np
import pytest

from tests.studies.tiny import tiny_study
from tlx import records
from tlx.studies import runner
from tlx.studies.axes import Axes
from tlx.studies.progress import Progress

pytest.importorskip("sklearn", reason="the tiny study trains on scikit-learn's digits")


def test_each_run_is_judged_on_its_own_images(tmp_path):
    spec = tiny_study(
        axes=Axes(shuffle=("block:2",)),
        shuffle_by_seed=True,
        partial=(),
        questions=("sweep", "similarity"),
    )
    done = runner.run(spec, tmp_path, progress=Progress(1.0, io.StringIO()))
    (found,) = records.query(done.records, "sweep")
    assert found.values.tolist() == ["block:2", "none"]
    np.testing.assert_allclose(found.final_mean, found.final.mean((2, 3)), atol=1e-6)
    pairs = [r.inputs["pair"] for r in records.query(done.records, "similarity", shuffle="block:2")]
    assert sorted(pairs) == ["P-T / P", "P-T / P", "P-T / RI-T", "P-T / RI-T"]
