"""TensorBoard and Weights & Biases get the numbers of the files once, in any number of starts."""

import collections
import json
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.train.test_loop import Stop, run, stopping_at
from tests.train.tiny import make_spec
from tlx.train import metrics_log, telemetry, trackers
from tlx.train.spec import RunSpec

Curves = dict[str, list[tuple[int, float]]]

SPEC = {"num_steps": 12, "eval_every": 4, "log_every": 2, "checkpoint": {"resume_every": 3}}


def files(workdir: Path) -> Curves:
    """The numbers by name, of each step once, as the two files have them."""
    found: Curves = collections.defaultdict(list)
    for line in metrics_log.read(workdir):
        for name, value in line.items():
            if isinstance(value, float):
                found[f"{line['split']}/{name}"].append((line["step"], value))
    return found


def stopped_and_ended(spec: RunSpec, workdir: Path, tracker: str) -> None:
    for when in (5, 8):
        with pytest.raises(Stop):
            run(spec, workdir, log_to=(tracker,), progress=stopping_at(when))
    run(spec, workdir, log_to=(tracker,))


def events(workdir: Path) -> Iterator[Any]:
    """Of TensorBoard's files, in order: records of length, its checksum, data and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted((workdir / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            yield Event.FromString(data[at + 12 : at + 12 + length])
            at += length + 16


def shown_by_tensorboard(workdir: Path) -> Curves:
    """As it shows them: a session that starts at a step drops what was there of it and later."""
    found: Curves = collections.defaultdict(list)
    for event in events(workdir):
        if event.HasField("session_log"):
            assert event.session_log.status == event.session_log.START
            for name, points in found.items():
                found[name] = [point for point in points if point[0] < event.step]
        for value in event.summary.value:
            found[value.tag].append((event.step, value.simple_value))
    return found


def test_tensorboard_has_each_number_once(tmp_path: Path):
    pytest.importorskip("tensorboardX")
    stopped_and_ended(make_spec(**SPEC), tmp_path, "tensorboard")
    shown = shown_by_tensorboard(tmp_path)
    for name, points in files(tmp_path).items():
        assert [step for step, _ in shown[name]] == [step for step, _ in points], name
        values = [value for _, value in points]
        assert [value for _, value in shown[name]] == pytest.approx(values, rel=1e-6), name
    last = [line for line in telemetry.read(tmp_path) if line["event"] == "interval"][-1]
    for name in ("images_per_second", "step_seconds", "memory_bytes"):
        assert dict(shown[f"telemetry/{name}"])[12] == pytest.approx(last[name], rel=1e-6)


def wandb_records(path: Path) -> Iterator[bytes]:
    """Of a file of W&B: blocks of pieces of records, each with checksum, length and kind."""
    data, at, record = path.read_bytes(), 7, b""
    while at < len(data):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


def wandb_rows(workdir: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """The run's id and a row, of its offline files, in the order of its starts."""
    from wandb.proto.wandb_internal_pb2 import Record

    paths = (workdir / "wandb").glob("offline-run-*/run-*.wandb")
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        for data in wandb_records(path):
            row = Record.FromString(data).history.item
            if row:
                yield path.stem, {x.key or x.nested_key[0]: json.loads(x.value_json) for x in row}


def test_weights_and_biases_go_on_with_one_run(tmp_path: Path, monkeypatch: Any):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    stopped_and_ended(make_spec(**SPEC), tmp_path, "wandb")
    found: Curves = collections.defaultdict(list)
    ids = set()
    for name, row in wandb_rows(tmp_path):
        ids.add(name)
        for key, value in row.items():
            found[key].append((int(row["step"]), value))
    assert ids == {f"run-{(tmp_path / trackers.WANDB_ID_FILE).read_text()}"}
    for name, points in files(tmp_path).items():
        assert found[name] == points, name
    steps = [step for step, _ in found["telemetry/step_seconds"]]
    assert steps == sorted(set(steps))
    assert steps[-1] == 12


def test_a_tracker_that_fails_does_not_stop_training(tmp_path: Path, monkeypatch, caplog):
    pytest.importorskip("tensorboardX")
    calls = []

    def log(self: Any, step: int, *_: Any, **__: Any) -> None:
        calls.append(step)
        if step >= 2:
            raise ConnectionError("the disk is full\nor worse")

    monkeypatch.setattr(trackers.TensorBoard, "log", log)
    with caplog.at_level(logging.WARNING, "tlx"):
        result = run(make_spec(num_steps=4), tmp_path, log_to=("tensorboard",))
    assert result.step == 4
    assert max(calls) == 2
    assert [record.message for record in caplog.records if record.name == "tlx"] == [
        "tensorboard: ConnectionError: the disk is full; training goes on without it"
    ]


def test_a_tracker_that_is_not_installed_says_the_command(monkeypatch):
    monkeypatch.setitem(trackers.PACKAGES, "wandb", "no_such_package")
    with pytest.raises(ValueError, match=r"pip install '\.\[wandb\]' in the clone of tlx$"):
        trackers.require(["wandb"])


def test_a_tracker_that_cannot_begin_does_not_stop_training(tmp_path: Path, monkeypatch, caplog):
    pytest.importorskip("tensorboardX")
    (tmp_path / "tensorboard").write_text("no folder")
    with caplog.at_level(logging.WARNING, "tlx"):
        run(make_spec(num_steps=2), tmp_path, log_to=("tensorboard",))
    assert "tensorboard: NotADirectoryError" in caplog.text
