"""Parts of a work in processes of their own: order, messages, errors, deaths."""

import errno
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import parts_of_work
from tlx.studies import pool
from tlx.studies.pool import Part


class Seen(pool.Watcher):
    """All that is told."""

    def __init__(self):
        self.events = []

    def begun(self, number):
        self.events.append(("begun", number))

    def told(self, number, said):
        self.events.append(("told", number, said))

    def done(self, number, result):
        self.events.append(("done", number, result))

    def failed(self, number, error):
        self.events.append(("failed", number, str(error)))

    def died(self, number, status):
        self.events.append(("died", number, status))

    def of(self, what):
        return [event[1] for event in self.events if event[0] == what]


def parts(*needs, weights=None, kinds=None):
    count = len(needs)
    return [
        Part(f"part {i}", (kinds or "a" * count)[i], (weights or [1] * count)[i], frozenset(need))
        for i, need in enumerate(needs)
    ]


def make(tmp_path, **acts):
    """The work that does parts as `acts` says, by "part_3"."""
    return functools.partial(parts_of_work.make, tmp_path, acts)


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_every_part_is_done_once_after_what_it_needs(tmp_path, workers):
    work = parts((), (0,), (), (0, 2), (1,), (3, 4))
    seen = Seen()
    if workers:
        pool.run(work, make(tmp_path), seen, workers)
    else:
        pool.run_here(work, make(tmp_path), seen)
    assert sorted(seen.of("done")) == list(range(6))
    assert sorted(seen.of("begun")) == list(range(6))
    for number, part in enumerate(work):
        at = seen.events.index(("begun", number))
        assert all(("done", need, need * need) in seen.events[:at] for need in part.needs)
    assert ("told", 3, "half of 3") in seen.events


def test_the_longest_way_comes_first_and_kinds_stay_together(tmp_path):
    # 3 waits for 1, so 1 is on the longest way; one process alone stays at a kind
    work = parts((), (), (), (1,), weights=[2, 1, 3, 9], kinds="abbc")
    seen = Seen()
    pool.run(work, make(tmp_path), seen, 1)
    assert seen.of("begun") == [1, 2, 3, 0]


def test_a_way_has_the_weight_of_all_its_parts(tmp_path):
    work = parts((), (), (1,), weights=[7, 4, 5], kinds="abc")
    seen = Seen()
    pool.run(work, make(tmp_path), seen, 1)
    assert seen.of("begun") == [1, 0, 2]


def test_processes_have_what_the_environment_says(tmp_path):
    seen, before = Seen(), dict(os.environ)
    more = {"TLX_TEST_OF_POOL": "7", "HOME": "/nowhere"}
    pool.run(parts(()), make(tmp_path, part_0="environment"), seen, 1, environment=more)
    assert seen.events[-1] == ("done", 0, "7 /nowhere")
    assert dict(os.environ) == before


def test_an_error_is_the_parents(tmp_path):
    seen = Seen()
    with pytest.raises(ValueError, match="part 1 cannot be done") as error:
        pool.run(parts((), (), (1,)), make(tmp_path, part_1="raise"), seen, 2)
    assert str(error.value) == "part 1 cannot be done"
    assert "in do" in error.value.__notes__[0]  # where it was raised
    assert ("failed", 1, str(error.value)) in seen.events
    assert 2 not in seen.of("begun")


def test_an_error_of_the_system_keeps_its_number_and_file(tmp_path):
    with pytest.raises(OSError, match="No space left") as error:
        pool.run(parts(()), make(tmp_path, part_0="full disk"), Seen(), 1)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, "records/a.npz")


def test_an_error_that_cannot_be_sent_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="Unsendable: no way to pickle this"):
        pool.run(parts(()), make(tmp_path, part_0="raise unsendable"), Seen(), 1)


def test_a_process_that_dies_is_replaced_and_its_part_done_again(tmp_path):
    seen = Seen()
    pool.run(parts((), (), (0,)), make(tmp_path, part_0="die once"), seen, 2)
    assert seen.of("died") == [0]
    assert ("died", 0, -signal.SIGKILL) in seen.events
    assert sorted(seen.of("done")) == [0, 1, 2]


def test_a_part_that_kills_every_process_is_named(tmp_path):
    seen = Seen()
    with pytest.raises(pool.WorkerDiedError, match=r"expected part 1 to be done, .* 2 times"):
        pool.run(parts((), ()), make(tmp_path, part_1="die"), seen, 2)
    assert seen.of("died") == [1]


def test_what_gives_a_part_more_memory_is_what_started_it(tmp_path):
    for more, said in (({}, "--workers=1"), ({"more_memory": "--slurm=mem=…"}, "--slurm=mem=…")):
        with pytest.raises(pool.WorkerDiedError) as error:
            pool.run(parts(()), make(tmp_path, part_0="die"), Seen(), 1, **more)
        assert str(error.value).endswith(f"with {said} if memory is short")


def started(tmp_path, act):
    """A process that has two others do this each."""
    code = (
        "from tests.studies import test_pool as t; from pathlib import Path\n"
        "from tlx.train import stopping\n"
        "if __name__ == '__main__':\n"
        "  with stopping.raised():\n"
        f"    t.pool.run(t.parts((), ()), t.make(Path({str(tmp_path)!r}), part_0={act!r}, "
        f"part_1={act!r}), t.Seen(), 2)"
    )
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


def test_processes_save_what_they_are_at_when_the_work_is_stopped(tmp_path):
    parent = started(tmp_path, "save when stopped")
    try:
        waits(lambda: len(list(tmp_path.glob("*.ready"))) == 2, seconds=60)
        for pid in [int(path.read_text()) for path in tmp_path.glob("*.pid")]:
            os.kill(pid, signal.SIGUSR2)  # as a scheduler tells all of a time limit
        parent.terminate()
        assert parent.wait(timeout=30) != 0
        assert len(list(tmp_path.glob("*.saved"))) == 2
        assert not any(is_alive(int(path.read_text())) for path in tmp_path.glob("*.pid"))
    finally:
        parent.kill()


def test_processes_end_with_the_one_that_started_them(tmp_path):
    parent = started(tmp_path, "sleep")
    try:
        waits(lambda: len(list(tmp_path.glob("*.pid"))) == 2, seconds=60)
        pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
        assert all(is_alive(pid) for pid in pids)
        parent.kill()
        parent.wait()
        waits(lambda: not any(is_alive(pid) for pid in pids), seconds=30)
    finally:
        parent.kill()


def waits(is_true, seconds):
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"
