"""What is killed: a run, a run of two processes, a study with its processes; all by `tlx`."""

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tests.studies.tiny import tiny_study
from tlx import records
from tlx.studies.axes import Axes

ROOT = Path(__file__).parents[2]

LOADED = (
    "tlx.cli",
    "tlx.config.files",
    "tlx.studies.runner",
    "tlx.train.loop",
    "tests.faults.tiny_run",
)


class Forked:
    """A process of `tlx` that need not load anything: a fork of one that has, and did no more.

    With what of `subprocess.Popen` is used here.
    """

    def __init__(self, words: Sequence[str], out: Path, environ: dict[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        self._process = context.Process(target=_command, args=(words, out, environ))
        self._process.start()
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """As that of a Popen that was waited for."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit status; None before the end."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """The exit status, at the end."""
        self._process.join()
        return self._process.exitcode


Process: TypeAlias = "subprocess.Popen[bytes] | Forked"


def load() -> None:
    """Starts the process that `Forked` ones are forks of, with this one's environment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LOADED])


def _command(words: Sequence[str], out: Path, environ: dict[str, str]) -> None:
    """What a fork does."""
    os.setsid()
    file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environ)
    from tlx.cli import run

    sys.exit(run(words))


class Subject(NamedTuple):
    """Something that a command does, or several processes of one command together.

    Attributes:
      command: of `tlx`.
      config: the file of its config.
      processes: their number.
      options: of the command.
    """

    command: str
    config: Path
    processes: int = 1
    options: Sequence[str] = ()

    def start(self, workdir: Path, out: Path, *, is_forked: bool) -> list[Process]:
        """Its processes, each in a session of its own; `out` is what they say."""
        words = [self.command, f"--config={self.config}", f"--workdir={workdir}", *self.options]
        address = f"127.0.0.1:{_free_port()}"
        started: list[Process] = []
        for number in range(self.processes):
            joined = {
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": str(self.processes),
                "JAX_PROCESS_ID": str(number),
            }
            more = joined if self.processes > 1 else {}
            if is_forked and self.command == "train":
                started.append(Forked(words, out, more))
            else:
                started.append(_popen(words, out, more))
        return started


def _popen(words: Sequence[str], out: Path, environ: dict[str, str]) -> "subprocess.Popen[bytes]":
    with out.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tlx.cli", *words],
            cwd=ROOT,
            env=os.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def make(folder: Path) -> dict[str, Subject]:
    """All subjects by name; the config of the study is written into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    run, study = Path(__file__).with_name("tiny_run.py"), folder / "study.json"
    spec = tiny_study(questions=("interpolation", "distances"), axes=Axes(), partial=())
    study.write_text(records.canonical_json(spec.saved()))
    return {
        "run": Subject("train", run),
        "processes": Subject("train", run, processes=2),
        "study": Subject("study", study, options=("--workers=2",)),
    }


def environment(folder: Path) -> dict[str, str]:
    """What subjects have around them: one device, and a folder for what has been compiled."""
    return {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
