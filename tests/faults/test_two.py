"""Commands that are given twice at once, on one workdir."""

from pathlib import Path

import pytest

from tests.faults import remains, subjects


def test_of_two_commands_at_once_one_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other says who does, or finds it done."""
    for name, value in subjects.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    run = subjects.make(tmp_path / "configs")["run"]
    outs = [tmp_path / f"{number}.txt" for number in range(3)]
    places = ("run", "run", "whole")
    started = [
        run.start(tmp_path / place, out, is_forked=False)[0]
        for place, out in zip(places, outs, strict=True)
    ]
    *statuses, alone = [process.wait() for process in started]
    assert alone == 0
    assert 0 in statuses
    assert set(statuses) <= {0, 1}
    for status, out in zip(statuses, outs, strict=False):
        said = out.read_text()
        assert "Traceback" not in said
        if status:
            (line,) = said.splitlines()
            assert "to be written by one process, but process" in line
    assert not remains.differences(tmp_path / "whole", tmp_path / "run")
