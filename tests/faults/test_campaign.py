"""A campaign of 20 kills; `python -m tests.faults` is that of 1,000."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import campaign, changes, remains, subjects
from tests.faults.changes import Changes

pytestmark = pytest.mark.skipif(not changes.IS_HERE, reason="sees changes of files on Linux alone")


def command(folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.faults", f"--folder={folder}", *more],
        cwd=subjects.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_twenty_kills(tmp_path: Path) -> None:
    done = command(tmp_path, "--kills=18", "--kind=run", "--kind=run-term")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(campaign.counts(campaign.read(tmp_path)).values()) >= 20
    assert "while a checkpoint was written" in done.stdout
    assert not list((tmp_path / "stories").iterdir())


def test_a_log_that_was_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    entry = {"story": "run-0", "kind": "run", "strikes": [{}, {}]}
    (tmp_path / campaign.LOG).write_text(json.dumps(entry) + "\n" + json.dumps(entry)[:20])
    assert campaign.counts(campaign.read(tmp_path)) == {"run": 2}


def test_changes_are_counted(tmp_path: Path) -> None:
    with Changes(tmp_path) as seen:
        assert seen.wait(0.01) == 0
        (tmp_path / "a" / "b").mkdir(parents=True)
        assert seen.wait(1) >= 1
        (tmp_path / "a" / "b" / "c").write_text("x")
        (tmp_path / "a").rename(tmp_path / "d")
        assert seen.wait(1) >= 3


def test_where_a_kill_has_hit(tmp_path: Path) -> None:
    assert remains.hit(tmp_path) == "before the first file"
    (tmp_path / ".config.json.new").write_text("{")
    assert remains.hit(tmp_path) == "while a small file was written"
    (tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir(parents=True)
    assert remains.hit(tmp_path) == "while a checkpoint was written"


def test_what_differs_is_named(tmp_path: Path) -> None:
    for name, text in (("one", '{"seconds": 1.5, "a": 2}'), ("other", '{"seconds": 2.5, "a": 2}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(text)
    assert remains.differences(tmp_path / "one", tmp_path / "other") == []
    (tmp_path / "other" / ".result.json.new").write_text("")
    (tmp_path / "other" / "result.json").write_text('{"seconds": 2.5, "a": 3}')
    assert remains.differences(tmp_path / "one", tmp_path / "other") == [
        ".result.json.new is left over",
        "result.json differs",
    ]
    assert remains.broken(tmp_path / "other") == []
