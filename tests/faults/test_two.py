"""Commands that are given twice at once, on one workdir."""

import subprocess
from pathlib import Path

import pytest

from tests.faults import remains, subjects
from tlx import cli


def test_of_two_commands_at_once_one_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other says who does, or finds it done."""
    for name, value in subjects.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    run = subjects.make(tmp_path / "configs")["run"]
    words = ["train", f"--config={run.config}", f"--workdir={tmp_path / 'whole'}"]
    assert cli.main(words) == 0
    outs = [tmp_path / f"{number}.txt" for number in range(2)]
    both = [run.start(tmp_path / "run", out, is_forked=False)[0] for out in outs]
    assert all(isinstance(process, subprocess.Popen) for process in both)
    statuses = [process.wait() for process in both]
    assert 0 in statuses
    assert set(statuses) <= {0, 1}
    for status, out in zip(statuses, outs, strict=True):
        said = out.read_text()
        assert "Traceback" not in said
        if status:
            (line,) = said.splitlines()
            assert "to be written by one process, but process" in line
    assert not remains.differences(tmp_path / "whole", tmp_path / "run")
