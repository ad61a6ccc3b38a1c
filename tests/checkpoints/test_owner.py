"""A folder has one writer: among processes, after kills, and on other machines."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tlx.checkpoints import owner

HOLD = """
import sys, time
from pathlib import Path
from tlx.checkpoints import owner
with owner.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
RACE = """
import os, sys, time
from pathlib import Path
from tlx.checkpoints import owner
folder, log = Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
done = 0
while done < 5:
    try:
        with owner.hold(folder):
            os.write(log, b"(")
            time.sleep(0.002)
            os.write(log, b")")
        done += 1
    except owner.BusyError:
        time.sleep(0.001)
"""


def holder(folder: Path) -> subprocess.Popen:
    words = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def elsewhere(folder: Path) -> Path:
    """The file of an owner on another machine."""
    there = owner.Owner("t", "far", "another boot", 7, "1")
    path = folder / owner.FILE
    path.write_text(json.dumps(there._asdict()))
    return path


def test_a_second_writer_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        said = rf"process {process.pid} on .* is writing into"
        with pytest.raises(owner.BusyError, match=said), owner.hold(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / owner.FILE).exists()  # nobody took it away
    begun = time.monotonic()
    with owner.hold(tmp_path) as held:
        held.require()
    assert time.monotonic() - begun < 5  # without waiting to see whether it lives
    assert not list(tmp_path.iterdir())


def test_within_one_process_too(tmp_path: Path) -> None:
    with owner.hold(tmp_path), pytest.raises(owner.BusyError), owner.hold(tmp_path):
        pass
    with owner.hold(tmp_path):
        pass


def test_an_owner_elsewhere_is_watched(tmp_path: Path) -> None:
    path, said = elsewhere(tmp_path), []
    beats = threading.Timer(0.3, os.utime, (path,))
    beats.start()
    with (
        pytest.raises(owner.BusyError, match="process 7 on far"),
        owner.hold(tmp_path, tell=said.append, patience=5),
    ):
        pass
    assert "process 7 on far wrote into" in said[0]
    with owner.hold(tmp_path, patience=0.3) as held:  # no beat since
        held.require()


def test_a_file_that_was_cut_off_is_of_nobody(tmp_path: Path) -> None:
    (tmp_path / owner.FILE).write_text('{"token": "a')
    with owner.hold(tmp_path, patience=0.2) as held:
        held.require()


def test_who_was_taken_for_dead_writes_no_more(tmp_path: Path) -> None:
    with owner.hold(tmp_path) as held:
        held.require()
        path = elsewhere(tmp_path)
        with pytest.raises(owner.LostError, match="process 7 on far now"):
            held.require()
    assert path.exists()  # the other one's stays


def test_a_number_that_a_new_process_has_is_not_the_owner(tmp_path: Path) -> None:
    if not owner._this().machine:
        pytest.skip("this system does not say when processes began")
    there = owner._this()._replace(token="old", started="1")
    (tmp_path / owner.FILE).write_text(json.dumps(there._asdict()))
    with owner.hold(tmp_path) as held:
        held.require()


def test_of_many_one_at_a_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = [sys.executable, "-c", RACE, str(tmp_path / "held"), str(log)]
    processes = [subprocess.Popen(words) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert log.read_text() == "()" * 20


def test_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refused)
    with owner.hold(tmp_path) as held:
        held.require()
        with pytest.raises(owner.BusyError), owner.hold(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
@pytest.mark.parametrize("has_links", [True, False])
def test_a_full_disk_is_said_with_its_place_and_leaves_nothing(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path_open = Path.open

    def full(path: Path, mode: str = "r", *args: object, **options: object) -> object:
        if has_links == path.name.startswith(f"{owner.FILE}.") and "r" not in mode:
            path_open(path, mode).close()
            return path_open(Path("/dev/full"), "w")
        return path_open(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", full)
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *args: (_ for _ in ()).throw(PermissionError()))
    with pytest.raises(OSError, match="No space left") as found, owner.hold(tmp_path):
        pass
    assert found.value.filename == str(tmp_path / owner.FILE)
    assert not list(tmp_path.iterdir())


def test_what_killed_claimers_left_is_removed(tmp_path: Path) -> None:
    for name, text in (("a", json.dumps(owner._this()._asdict())), ("b", '{"tok')):
        (tmp_path / f"{owner.FILE}.{name}").write_text(text)
    with owner.hold(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [owner.FILE]


def test_a_folder_that_is_gone_is_why_something_was_raised(tmp_path: Path) -> None:
    def work() -> None:
        with owner.hold(tmp_path / "held"):
            (tmp_path / "held").rename(tmp_path / "moved")
            raise RuntimeError("no such file")

    with pytest.raises(owner.LostError, match=r"held to stay .* was moved or deleted"):
        work()
