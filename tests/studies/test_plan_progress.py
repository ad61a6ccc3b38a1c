import io
from pathlib import Path

from tests.studies.tiny import tiny_study
from tlx.studies import plan
from tlx.studies.progress import Progress
from tlx.train import serial

ROOT = Path("w")


def test_runs_of_a_study():
    runs = plan.runs(tiny_study(), ROOT)
    assert [run.name for run in runs] == [
        "P",
        "P-T 1",
        "RI-T 1",
        "P-T 2",
        "RI-T 2",
        "P-T 1 block:4",
        "RI-T 1 block:4",
    ]
    assert runs[5].workdir == ROOT / "runs" / "p-t_1_block_4"
    assert runs[5].shuffle == "block:4"
    for run in runs[1:]:
        start = run.spec.init_from
        assert (start is None) == (run.kind == "RI-T")
        assert start is None or start.workdir == str(runs[0].workdir)
    seeds = [run.spec.seed for run in runs if run.kind == "RI-T"]
    assert seeds == [0, 1000, 0]
    assert len({serial.digest(run.spec) for run in runs}) == len(runs)


def test_pairs_of_a_study():
    runs = plan.runs(tiny_study(), ROOT)
    names = [(p.a.name, p.b.name) for p in plan.target_pairs(runs) + plan.source_pairs(runs)]
    assert names == [
        ("P-T 1", "P-T 2"),
        ("P-T 1", "RI-T 1"),
        ("RI-T 1", "RI-T 2"),
        ("P-T 1", "P"),
        ("RI-T 1", "P"),
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def told(out, seconds):
    clock = iter(seconds)
    progress = Progress(10, out, now=lambda: next(clock))
    progress.start("one", 4)
    progress.part(0.5, "step 2 of 4")
    progress.finish("accuracy 0.9")
    progress.start("two", 6)
    progress.finish(worked=False)
    return out.getvalue()


def test_progress_without_a_terminal():
    text = told(io.StringIO(), [0, 0, 20, 20, 20, 40, 40, 40])
    assert text.splitlines() == [
        "[ 20%] one  step 2 of 4  (about 1 min 20 s left)",
        "[ 40%]   40.0 s  one  accuracy 0.9  (about 1 min 00 s left)",
        "[100%]     done  two",
    ]


def test_quiet_where_parts_are_quick():
    text = told(io.StringIO(), [0, 0, 1, 2, 3, 3])
    assert len(text.splitlines()) == 2


def test_progress_on_a_terminal_rewrites_its_line():
    text = told(Terminal(), [0, 0, 0, 20, 20, 40, 40, 40, 40])
    assert text.count("\r\x1b[K") == 5
    assert text.count("\n") == 2
