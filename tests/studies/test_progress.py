"""What is told of a study while it goes on."""

import io

from tlx.studies.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


def told(out, seconds):
    """Two tasks of weights 4 and 6; the first takes `seconds` a part, the second is done."""
    clock = Clock()
    progress = Progress(10, out, now=clock)
    progress.start("one", 4)
    clock.time += 100  # compilation, which does not count
    progress.part("one", 0.25, "step 1 of 4")
    for step in (2, 3):
        clock.time += seconds
        progress.part("one", step / 4, f"step {step} of 4")
    clock.time += seconds
    progress.finish("one", "accuracy 0.9")
    progress.start("two", 6)
    progress.finish("two", worked=False)
    return out.getvalue()


def test_progress_without_a_terminal():
    assert told(io.StringIO(), 20).splitlines() == [
        "[ 10%] one  step 1 of 4  (time left: not known yet)",
        "[ 20%] one  step 2 of 4  (about 2 min 40 s left)",
        "[ 30%] one  step 3 of 4  (about 2 min 20 s left)",
        "[ 40%]  160.0 s  one  accuracy 0.9  (about 2 min 00 s left)",
        "[100%]     done  two",
    ]


def test_tasks_at_once():
    out, clock = io.StringIO(), Clock()
    progress = Progress(8, out, now=clock)
    progress.start("one", 4)
    progress.start("two", 4)
    progress.part("one", 0.25, "step 1 of 4")
    for step in (1, 2):
        clock.time += 20
        progress.part("two", step / 4, f"step {step} of 4")
    progress.finish("two")
    progress.finish("one")
    assert out.getvalue().splitlines() == [
        "[ 25%] one  step 1 of 4; two  step 1 of 4  (about 2 min 00 s left)",
        "[ 38%] one  step 1 of 4; two  step 2 of 4  (about 1 min 40 s left)",
        "[ 62%]   40.0 s  two  (about 30 s left)",
        "[100%]   40.0 s  one",
    ]


def test_quiet_where_parts_are_quick():
    assert len(told(io.StringIO(), 1).splitlines()) == 3


def test_progress_on_a_terminal_rewrites_its_line():
    text = told(Terminal(), 20)
    assert text.count("\r\x1b[K") == 7
    assert text.count("\n") == 2


def test_a_narrow_terminal_still_shows_the_time_left(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    out, clock = Terminal(), Clock()
    progress = Progress(4, out, now=clock)
    progress.start("one", 4)
    for step in (1, 2):
        clock.time += 20
        progress.part("one", step / 4, f"step {step} of 4  1,234 images/s  test accuracy 0.812")
    assert out.getvalue().rpartition("\x1b[K")[2] == "[ 50%] one  step 2 o  (about 40 s left)"
