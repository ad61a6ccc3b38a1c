"""How it is with the jobs of a study, as Slurm says it, and the file that names them."""

import json
import os

import pytest

from tests.studies.test_slurm import PAGE, P, submit
from tlx import cli
from tlx.studies import cluster, marks, status
from tlx.studies.cluster import Record, State, Submitted


def items(workdir):
    return status.of(workdir).items


def test_how_it_is_with_jobs(fake, done, workdir, capsys):
    submit(workdir)
    assert {item.state for item in status.of(workdir).items} == {"waiting"}
    fake.now("100", "RUNNING")
    made = marks.Marks(workdir / "parts", job="100_0", now=iter([0, 0, 10, 10]).__next__)
    made.begun(P)
    made.told(P, 0.25, "step 1 of 4")
    made.told(P, 0.5, "step 2 of 4")
    found = status.of(workdir)
    assert found.exit_status == 3
    assert [item.state for item in found.items[:3]] == ["running", "waiting", "waiting"]
    text = found.text()
    assert "train P, step 2 of 4, 0.1 steps/s, about 20 s left, job 100_0 on n1" in text
    fake.now("100_0", "TIMEOUT")
    fake.now("100_1", "OUT_OF_MEMORY", forgotten=True)
    fake.now("100_2", "FAILED")
    made = marks.Marks(workdir / "parts", job="100_2")
    made.failed(4, FloatingPointError("the loss of the batch of step 3 is not finite"))
    (workdir / "jobs" / "100_1_0_log.out").write_text("one\nslurmstepd: error: oom_kill\n")
    found = status.of(workdir)
    assert found.exit_status == 1
    text = found.text()
    assert "train P: its time was over; ask for more by --slurm=time=…  [job 100_0]" in text
    assert "train RI-T 1: it took more memory than it had asked for" in text
    assert "(slurmstepd: error: oom_kill)  [job 100_1]" in text
    assert "train RI-T 2: the loss of the batch of step 3 is not finite  [job 100_2," in text
    assert {item.state for item in found.items[5:]} == {"left"}  # they wait for what failed
    done.update(range(PAGE + 1))
    assert cli.main(["status", f"--workdir={workdir}", "--json"]) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert {item["state"] for item in items} == {"done"}


def test_what_another_job_was_at_is_not_running(fake, done, workdir):
    submit(workdir)
    marks.Marks(workdir / "parts", job="99").begun(P)  # whose node has failed
    fake.now("100", "RUNNING")
    assert status.of(workdir).items[P].state == "waiting"


def test_a_job_that_can_never_begin_is_in_nobodys_way(fake, done, workdir):
    submit(workdir)
    for job in fake.jobs():
        fake.now(job, "PENDING", cluster.NEVER)
    cluster.require_idle(workdir)


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        ("PENDING", "JobHeldUser", "JobHeldUser: it is held until scontrol release 100_0; or "),
        ("PENDING", "JobHeldAdmin", "scontrol release 100_0 by an administrator of the cluster;"),
        ("PENDING", "launch failed requeued held", "launch failed requeued held: it is held until"),
        ("REQUEUE_HOLD", "None", "REQUEUE_HOLD: it is held until"),
        ("SPECIAL_EXIT", "None", "SPECIAL_EXIT: it is held until"),
        ("RESV_DEL_HOLD", "ReservationDeleted", "RESV_DEL_HOLD, ReservationDeleted: it is held"),
        ("PENDING", "ReqNodeNotAvail|Reserved", "ReqNodeNotAvail|Reserved"),
    ],
)
def test_what_waits_for_more_than_its_turn_is_told(fake, done, workdir, state, reason, said):
    submit(workdir)
    for job, ordinary in (("101", "Dependency"), ("102", "Priority"), ("103", "Resources")):
        fake.now(job, "PENDING", ordinary)
    fake.now("100_0", state, reason)
    text = status.of(workdir).text()
    block = next(block for block in text.split("\n\n") if block.startswith("waiting:"))
    assert len(block.splitlines()) == 2
    assert block.splitlines()[1].startswith("  train P: ")
    assert said in block
    assert block.endswith("[job 100_0]")
    is_held = "release 100_0" in block
    assert is_held == (reason != "ReqNodeNotAvail|Reserved")
    assert text.endswith("the rest goes on" if is_held else "it goes on")
    assert ("what is held" in text) == is_held
    assert submit(workdir) == []  # it is in the queue


def test_what_was_cancelled_is_to_be_given_again_and_has_not_failed(fake, done, workdir):
    submit(workdir)
    fake.now("100_0", "RUNNING")
    made = marks.Marks(workdir / "parts", job="100_0")
    made.begun(P)
    made.told(P, 0.25, "step 1 of 4")
    for job in fake.jobs():
        fake.now(job, "CANCELLED", forgotten=job == "101")
    found = status.of(workdir)
    assert found.exit_status == 3
    assert {item.state for item in found.items} == {"left"}
    text = found.text()
    assert "stopped:\n  train P, it was cancelled, job 100_0\n  train RI-T 1, it was" in text
    assert text.endswith("nobody is at it: give the command again, which goes on from here")


def test_a_job_that_only_the_accounts_call_running_is_lost(fake, done, workdir):
    submit(workdir)
    fake.now("100_0", "RUNNING", forgotten=True)
    record = cluster.read(workdir)
    assert "100_0" not in cluster.states(record)
    assert items(workdir)[P].state == "failed"
    assert cluster.UNKNOWN in items(workdir)[P].detail
    assert submit(workdir)


def test_where_slurm_cannot_be_asked_it_is_not_known_who_is_at_it(fake, done, workdir, monkeypatch):
    submit(workdir)
    monkeypatch.setenv("PATH", os.environ["PATH"].partition(":")[2])
    for failed in (False, True):
        if failed:
            marks.Marks(workdir / "parts", job="100_0").failed(P, ValueError("no"))
        text = status.of(workdir).text()
        assert "how it is with the jobs of jobs.json is not known: expected Slurm's sq" in text
        assert text.splitlines()[-1].startswith("whether somebody is at it is not known here")
        assert "mend the cause" not in text
    done.update(range(PAGE + 1))
    assert status.of(workdir).text().endswith("all is done")


@pytest.mark.parametrize(
    "values",
    [
        [],
        {"name": "--help", "arrays": []},
        {"name": 5, "arrays": []},
        {"name": "tlx-a", "arrays": 5},
        *(
            {"name": "tlx-a", "arrays": [array]}
            for array in (
                5,
                {"id": "1"},
                {"id": 5, "jobs": [[1]]},
                {"id": "--help", "jobs": [[1]]},
                *({"id": "1", "jobs": jobs} for jobs in (["ab"], [[-1]], [["1"]], [[]], [], "ab")),
            )
        ),
    ],
)
def test_a_file_of_jobs_that_is_none_is_refused(tmp_path, values):
    (tmp_path / cluster.FILE).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"jobs.json: expected the jobs of a study, got a damaged"):
        cluster.read(tmp_path)


def test_jobs_of_another_versions_parts_are_refused(fake, done, workdir):
    submit(workdir)
    cluster.write(workdir, Record("tlx-a", (Submitted("100", ((0,), (PAGE + 1,))),)))
    said = r"expected jobs of the study's 21 parts, got one of part 22: another version .* --name=t"
    for act in (lambda: status.of(workdir), lambda: submit(workdir)):
        with pytest.raises(ValueError, match=said):
            act()


def test_states_that_slurm_says_are_read_whatever_the_reason(fake, done, workdir):
    submit(workdir)
    fake.now("100_0", "PENDING", "Nodes required are DOWN|DRAINED|reserved (a, b)")
    found = cluster.states(cluster.read(workdir))
    assert found["100_0"] == State("PENDING", "Nodes required are DOWN|DRAINED|reserved (a, b)")
    assert all(job[0].isdigit() for job in found)
