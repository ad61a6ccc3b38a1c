"""A record is there whole or not at all, once, and opens with numpy and json alone."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tlx.records import find, load, make_record, query, record_digest, save, scan, sweep

RESULTS = {
    "alphas": np.linspace(0, 1, 5, dtype=np.float32),
    "loss": np.array([0.5, np.nan, -np.inf, 0.25, 0.5]),
    "layers": np.array(["stem", "pooled"]),
    "count": np.int32(100),
    "empty": np.zeros((0, 3), np.int16),
}


def record(a="x", **changes):
    fields = {"options": {"kind": "chord"}, "data": {"split": "test"}, "meta": {"seconds": 1.5}}
    return make_record("my_line", **{"inputs": {"a": a}, "results": RESULTS, **fields, **changes})


def assert_equal(one, other):
    assert (one.question, one.key, one.meta) == (other.question, other.key, other.meta)
    assert list(one.results) == list(other.results)
    for name, array in one.results.items():
        assert array.dtype == other.results[name].dtype
        np.testing.assert_array_equal(array, other.results[name])


def test_what_is_saved_is_found_and_loaded(tmp_path):
    path = save(tmp_path, record())
    assert path.parent == tmp_path / "my_line"
    assert path.stem == record_digest("my_line", record().key)[:16]
    assert_equal(find(tmp_path, "my_line", record().key), record())
    for name in (path, path.with_suffix(".npz"), path.with_suffix(""), str(path)):
        assert_equal(load(name), record())


def test_saving_again_is_a_no_op(tmp_path):
    path = save(tmp_path, record())
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.parent.iterdir()}
    assert save(tmp_path, record(results={"other": 1}, meta={})) == path
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in path.parent.iterdir()}


def test_equal_records_have_equal_bytes(tmp_path):
    one, other = save(tmp_path / "one", record()), save(tmp_path / "other", record())
    time.sleep(0.01)
    for suffix in (".json", ".npz"):
        assert one.with_suffix(suffix).read_bytes() == other.with_suffix(suffix).read_bytes()


def test_meta_is_not_part_of_the_name(tmp_path):
    assert save(tmp_path, record(meta={})) == save(tmp_path, record(meta={"seconds": 3}))
    assert save(tmp_path, record("y")) != save(tmp_path, record("x"))


def test_a_record_opens_without_this_library(tmp_path):
    stem = save(tmp_path, record()).with_suffix("")
    code = (
        "import json, sys, numpy\n"
        f"about = json.load(open({str(stem)!r} + '.json'))\n"
        f"arrays = numpy.load({str(stem)!r} + '.npz')\n"
        "assert about['question'] == 'my_line' and about['key']['inputs'] == {'a': 'x'}\n"
        "assert sorted(arrays) == sorted(about['arrays'])\n"
        "assert arrays['loss'].shape == (5,) and list(arrays['layers']) == ['stem', 'pooled']\n"
        "assert not any(name.startswith(('tlx', 'jax')) for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True, cwd=tmp_path, timeout=60)


def test_arrays_without_json_are_no_record(tmp_path):
    path = save(tmp_path, record())
    path.unlink()
    assert find(tmp_path, "my_line", record().key) is None
    assert scan(tmp_path) == ([], [])
    with pytest.raises(ValueError, match=r"no record at .*does not exist"):
        load(path)
    assert_equal(load(save(tmp_path, record())), record())


def _cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def _other_key(path):
    about = json.loads(path.read_text())
    about["key"]["inputs"]["a"] = "changed"
    path.write_text(json.dumps(about))


def _no_meta(path):
    about = json.loads(path.read_text())
    del about["meta"], about["npz_sha256"]
    path.write_text(json.dumps(about))


def _newer(path):
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"format": 99}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda p: p.with_suffix(".npz").unlink(), "npz is missing", id="no arrays"),
        pytest.param(
            lambda p: _cut(p.with_suffix(".npz")), "damaged or of another", id="cut arrays"
        ),
        pytest.param(lambda p: _cut(p), "not JSON", id="cut json"),
        pytest.param(lambda p: p.write_text(""), "not JSON", id="empty json"),
        pytest.param(lambda p: p.write_text("[1]"), "not a record", id="other json"),
        pytest.param(lambda p: p.write_text('{"key": 3}'), "not a record", id="other key"),
        pytest.param(_other_key, "its key has the digest", id="changed key"),
        pytest.param(_no_meta, "lacks npz_sha256, meta", id="fields"),
        pytest.param(_newer, "format 99, but this version of tlx reads format 1", id="newer"),
    ],
)
def test_a_damaged_record_says_so_and_is_redone(tmp_path, damage, message):
    path = save(tmp_path, record())
    damage(path)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert find(tmp_path, "my_line", record().key) is None
    found, problems = scan(tmp_path)
    assert found == []
    assert len(problems) == 1
    with pytest.raises(ValueError, match=message):
        query(tmp_path)
    save(tmp_path, record())
    assert_equal(load(path), record())


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save(tmp_path, record())
    monkeypatch.undo()
    assert list((tmp_path / "my_line").iterdir()) == []


WRITER = """
import sys
import numpy as np
from tlx.records import make_record, save
for i in range(100_000):
    results = {"x": np.full(20_000, i, np.int32), "noise": np.random.default_rng(i).random(20_000)}
    save(sys.argv[1], make_record("killed", inputs={"i": i}, results=results))
    print(i, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("after", [1, 4])
def test_a_killed_writer_leaves_whole_records_only(tmp_path, after):
    root = Path(__file__).parents[2]
    env = dict(os.environ, PYTHONPATH=str(root))
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        for _ in range(after):
            last = int(process.stdout.readline())
        time.sleep(0.003 * after)
        process.kill()
        process.stdout.read()
    found, problems = scan(tmp_path)
    sweep(tmp_path)
    assert {path.suffix for path in (tmp_path / "killed").iterdir()} <= {".json", ".npz"}
    assert problems == []
    assert {r.inputs["i"] for r in found} >= set(range(last + 1))
    for r in found:
        assert (r.results["x"] == r.inputs["i"]).all()
