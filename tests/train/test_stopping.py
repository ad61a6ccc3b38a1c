"""Signals that ask to stop: taken note of where a loop saves, raised elsewhere."""

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.train import tiny
from tlx import checkpoints
from tlx.train import stopping, workdir
from tlx.train.loop import train


def kill(signum: int) -> None:
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", stopping.SIGNALS)
def test_a_signal_is_noted_and_raised_at_the_end(signum: int) -> None:
    before = [signal.getsignal(each) for each in stopping.SIGNALS]

    def loop() -> None:
        with stopping.noted() as asked:
            assert asked() is None
            kill(signum)
            assert asked() == signum
            kill(signal.SIGTERM)  # changes nothing
            assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL

    with pytest.raises(stopping.Stopped) as error:
        loop()
    assert error.value.signum == signum
    assert str(error.value) == f"stopped by {signal.Signals(signum).name}"
    assert [signal.getsignal(each) for each in stopping.SIGNALS] == before


def test_a_loop_within_another_context_takes_the_signal() -> None:
    def loop() -> None:
        with stopping.raised(), stopping.noted() as asked:
            kill(signal.SIGTERM)
            signum = asked()
            assert signum is not None
            raise stopping.Stopped(signum, "after step 3")

    with pytest.raises(stopping.Stopped, match="by SIGTERM after step 3"):
        loop()


def test_a_signal_is_raised_where_no_loop_takes_it() -> None:
    def work() -> None:
        with stopping.raised():
            kill(signal.SIGINT)
            raise AssertionError("it goes on")

    with pytest.raises(KeyboardInterrupt):
        work()


def test_a_signal_whose_exception_is_dropped_comes_again() -> None:
    hook = sys.unraisablehook

    class Deleted:
        def __del__(self) -> None:
            kill(signal.SIGTERM)

    def work() -> None:
        with stopping.raised():
            Deleted()  # Python drops what is raised in it
            time.sleep(60)
            raise AssertionError("it goes on")

    with pytest.raises(stopping.Stopped):
        work()
    assert sys.unraisablehook is hook


def test_a_signal_while_a_module_is_imported_comes_again_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What raises while jaxlib is imported ends the process by SIGSEGV."""
    (tmp_path / "module_that_is_hit.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nfor _ in range(9): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def work() -> None:
        with stopping.raised():
            importlib.import_module("module_that_is_hit")
            time.sleep(60)
            raise AssertionError("it goes on")

    with pytest.raises(stopping.Stopped):
        work()
    assert "module_that_is_hit" in sys.modules  # whole


def test_a_signal_in_a_program_that_runs_while_it_is_imported_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "program_that_is_imported.py").write_text(
        "import os, signal\nfrom tlx.train import stopping\n"
        "with stopping.raised():\n    os.kill(os.getpid(), signal.SIGTERM)\n    went_on = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(stopping.Stopped):
        importlib.import_module("program_that_is_imported")


def test_a_signal_that_is_ignored_still_is() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping.noted() as asked:
            kill(signal.SIGINT)
            assert asked() is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_is_left_alone() -> None:
    found: list[object] = []

    def work() -> None:
        with stopping.noted() as asked, stopping.raised():
            found.extend((asked(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None, signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize("at", [6, 12])
def test_a_run_is_saved_where_it_stops_and_done_where_that_is_its_end(
    at: int, tmp_path: Path
) -> None:
    spec = tiny.make_spec(checkpoint={"rule": "none", "keep_best": False})

    def progress(step: int, num_steps: int, numbers: Mapping[str, float]) -> None:
        if step == at:
            kill(signal.SIGTERM)

    with pytest.raises(stopping.Stopped):
        train(spec, tmp_path, progress=progress)
    # the signal comes with the progress that is shown before the next step
    assert at <= checkpoints.steps(tmp_path)[-1] <= at + 1
    assert (workdir.read_result(tmp_path) is not None) == (at == spec.num_steps)
