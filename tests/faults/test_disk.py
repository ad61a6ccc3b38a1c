"""What the system refuses, at each file that is written: told with its place; nothing is lost."""

import contextlib
import errno
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import remains
from tests.faults.tiny_run import SPEC
from tests.train.test_damage import LEFT_BY_ORBAX
from tlx import checkpoints, cli, records
from tlx.checkpoints import owner
from tlx.report import page
from tlx.train import metrics_log
from tlx.train.loop import train

CONFIG = Path(__file__).with_name("tiny_run.py")
IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sets a limit on the size of files")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert tlx(folder) == 0
    return folder


def tlx(workdir: Path) -> int:
    return cli.main(["train", f"--config={CONFIG}", f"--workdir={workdir}"])


@contextlib.contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("size", "file"),
    [(50, owner.FILE), (300, "config.json"), (2_000, "checkpoints"), (5_500, "metrics.jsonl")],
)
def test_a_file_that_cannot_be_written(
    size: int, file: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    with at_most(size):
        assert tlx(workdir) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"tlx train: {workdir / file}: File too large; raise the limit")
    assert not remains.broken(workdir)
    assert tlx(workdir) == 0
    assert not remains.differences(whole, workdir)


@pytest.mark.parametrize("allowed", [0, 1, 2, 3, 4, 5])
def test_a_folder_that_cannot_be_made(
    allowed: int,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a disk that has no place for names: that no thread waits for the folder either."""
    workdir, made, before = tmp_path / "run", list[str](), set(threading.enumerate())
    make = os.mkdir

    def full(path: Any, *args: Any, **options: Any) -> None:
        if f"{workdir}/checkpoints/" in os.fspath(path):
            if len(made) == allowed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
            made.append(os.fspath(path))
        make(path, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "mkdir", full)
        assert tlx(workdir) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"tlx train: {workdir}/checkpoints")
    assert said.endswith("No space left on device; " + cli.REMEDIES[errno.ENOSPC])
    left = set(threading.enumerate()) - before
    assert not [thread.name for thread in left if not thread.daemon]  # the end waits for these
    assert len(made) == allowed
    assert not remains.broken(workdir)
    assert tlx(workdir) == 0
    assert not remains.differences(whole, workdir)


def test_the_result_cannot_be_written(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir, write = tmp_path / "run", metrics_log.replace_text

    def full(path: Path, text: str) -> None:
        with at_most(100 if path.name == "result.json" else resource.RLIM_INFINITY):
            write(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(metrics_log, "replace_text", full)
        assert tlx(workdir) == 1
    assert f"tlx train: {workdir / 'result.json'}: File too large" in capsys.readouterr().err
    assert not (workdir / "result.json").exists()
    assert tlx(workdir) == 0
    assert not remains.differences(whole, workdir)


def test_a_record_or_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    record = records.make_record("killed", inputs={"i": 1}, results={"x": list(range(100))})
    with at_most(100), pytest.raises(OSError, match="File too large") as error:
        records.save(tmp_path, record)
    assert str(error.value.filename).startswith(str(tmp_path / "killed"))
    with at_most(100), pytest.raises(OSError, match="File too large") as error:
        page.replace(tmp_path / "report.html", "x" * 1000)
    assert error.value.filename == str(tmp_path / "report.html")
    assert [path.name for path in tmp_path.rglob("*")] == ["killed"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    if not IS_ROOT or not shutil.which("mount"):
        pytest.skip("only root can mount a disk")
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=400k", "tlx", str(folder)]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets no disk be mounted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_full(small: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workdir = small / "run"
    assert tlx(workdir) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"tlx train: {workdir}/")
    assert said.endswith("No space left on device; " + cli.REMEDIES[28])
    assert not remains.broken(workdir)
    subprocess.run(["mount", "-o", "remount,size=100M", small], check=True)
    assert checkpoints.steps(workdir)
    assert tlx(workdir) == 0
    assert not remains.differences(whole, workdir)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Any]:
    """Makes a folder one that nobody can write to."""
    made: list[Path] = []

    def make(folder: Path) -> None:
        if not IS_ROOT:
            folder.chmod(0o555)
            return
        for words in (["--bind", folder, folder], ["-o", "remount,ro,bind", folder]):
            if subprocess.run(["mount", *words], check=False, capture_output=True).returncode:
                pytest.skip("this machine lets no folder be mounted")
            if folder not in made:
                made.append(folder)

    yield make
    for folder in made:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_read_only_workdir(
    read_only: Any, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("new", "done"):
        (tmp_path / name).mkdir()
    shutil.copytree(whole, tmp_path / "done", dirs_exist_ok=True)
    for name in ("new", "done"):
        read_only(tmp_path / name)
    assert tlx(tmp_path / "new") == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"tlx train: {tmp_path / 'new' / owner.FILE}")
    assert "name a place that" in said
    assert tlx(tmp_path / "done") == 0  # there is nothing to write


def moving(source: Path, target: Path, when: int) -> Any:
    """A `progress` that moves a folder at a step."""

    def progress(step: int, num_steps: int, numbers: Any) -> None:
        if step >= when and source.exists():
            source.rename(target)

    return progress


@LEFT_BY_ORBAX
@pytest.mark.parametrize("when", [10, 12, 14])
def test_a_workdir_that_vanishes(when: int, whole: Path, tmp_path: Path) -> None:
    workdir, away = tmp_path / "run", tmp_path / "away"
    with pytest.raises(owner.LostError, match=f"{workdir} to stay while .* was moved or deleted"):
        train(SPEC, workdir, progress=moving(workdir, away, when))
    (away / owner.FILE).unlink()  # it says that this process writes, which has not ended here
    while not workdir.exists() or away.exists():
        # nor have threads of orbax, which may be writing still
        shutil.rmtree(workdir, ignore_errors=True)
        with contextlib.suppress(OSError):
            away.rename(workdir)
    assert tlx(workdir) == 0
    assert not remains.differences(whole, workdir)
