"""Records are found by question and inputs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tlx.records import make_record, query, save, scan


@pytest.fixture
def root(tmp_path):
    for kind in ("P-T", "RI-T"):
        for replicate in (1, 0):
            inputs = {"run": f"{kind}{replicate}", "kind": kind, "replicate": replicate}
            save(tmp_path, make_record("curves", inputs=inputs, results={"n": replicate}))
    save(tmp_path, make_record("my_similarity", inputs={"a": "x", "sizes": (1, 2)}, results={}))
    return tmp_path


def runs(records):
    return [r.inputs["run"] for r in records]


def test_every_record_in_a_fixed_order(root):
    assert [r.question for r in query(root)] == ["curves"] * 4 + ["my_similarity"]
    assert runs(query(root, "curves")) == ["P-T0", "P-T1", "RI-T0", "RI-T1"]
    assert query(root) == scan(root)[0]


def test_by_inputs(root):
    assert runs(query(root, "curves", kind="P-T", replicate=1)) == ["P-T1"]
    assert runs(query(root, kind="RI-T")) == runs(query(root, "curves", kind="RI-T"))
    assert len(query(root, "my_similarity", sizes=(1, 2))) == 1
    assert query(root, "curves", kind="P") == []
    assert query(root, "nothing", kind="P") == []


def test_an_input_that_no_record_has_says_the_nearest(root):
    message = r"no 'curves' record has the input 'knd': known are \['kind', .*nearest: 'kind'"
    with pytest.raises(ValueError, match=message):
        query(root, "curves", knd="P-T")


def test_a_root_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="the folder does not exist; run the study first"):
        query(tmp_path / "typo")
    assert query(tmp_path) == []


def test_records_import_without_jax():
    blocked = "import sys; sys.modules.update(jax=None, flax=None, matplotlib=None)"
    code = f"{blocked}; import tlx.records, tlx.records.query"
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]))
    subprocess.run([sys.executable, "-c", code], check=True, env=env, timeout=60)
