"""Signals that ask to stop: taken note of where a loop saves, raised elsewhere."""

import os
import signal
import threading

import pytest

from tlx.train import stopping


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
