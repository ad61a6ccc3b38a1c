"""What is fed to the devices."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from tlx.core import sharding, streams
from tlx.train import feed


@pytest.mark.parametrize("kept_bytes", [2**20, 100, 0], ids=["all", "the first", "none"])
def test_every_pass_over_a_set_is_whole(kept_bytes, monkeypatch):
    monkeypatch.setattr(feed, "KEPT_BYTES", kept_bytes)
    inputs = np.arange(12, dtype=np.float32)[:, None]
    stream = streams.from_arrays(inputs, np.arange(12, dtype=np.int32), batch_size=4)
    fed = feed.eval_feed(stream, sharding.make_mesh())
    for _ in range(3):
        np.testing.assert_array_equal(np.concatenate([b["inputs"] for b in fed()]), inputs)


def test_two_passes_at_a_time_leave_a_third_whole():
    labels = np.arange(24, dtype=np.int32)
    stream = streams.from_arrays(labels.astype(np.float32)[:, None], labels, batch_size=8)
    fed = feed.eval_feed(stream, sharding.make_mesh())
    for seen in zip(fed(), fed(), strict=True):
        np.testing.assert_array_equal(*(batch["labels"] for batch in seen))
    np.testing.assert_array_equal(np.concatenate([b["labels"] for b in fed()]), labels)


@pytest.mark.parametrize(
    ("shape", "names", "kinds"),
    [
        ((4,), ("batch",), "Auto"),
        ((4,), ("data",), "Explicit"),
        ((2, 2), ("data", "pipe"), "Auto"),
        ((2, 2, 1), ("data", "points", "model"), "Auto"),
    ],
)
def test_a_mesh_that_does_not_split_rows_over_its_devices_is_refused(shape, names, kinds):
    types = (getattr(AxisType, kinds),) * len(shape)
    mesh = jax.make_mesh(shape, names, axis_types=types)
    with pytest.raises(ValueError, match=f"axes are data and model.*{names[-1]} of .*{kinds}"):
        feed.require_divisible(16, mesh)


def test_rows_of_a_mesh_are_those_of_its_devices_in_order():
    assert feed.row_processes(sharding.make_mesh(model=2)) == (0,) * 4
