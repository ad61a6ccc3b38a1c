"""A study submitted to a Slurm that only remembers: what it is told, and what comes of it."""

import os
import signal
import subprocess
import sys

import pytest

from tests.studies.tiny import tiny_study
from tlx import cli, models
from tlx.checkpoints import owner
from tlx.studies import cluster, marks, outline, pool, resources, runner, sbatch, slurm, status
from tlx.studies import workdir as files
from tlx.studies.axes import Axes
from tlx.train import stopping

pytest.importorskip("sklearn", reason="the tiny study trains on scikit-learn's digits")
pytest.importorskip("submitit")

STUDY = tiny_study(questions=("distances",), axes=Axes(), partial=())
P, RUNS, PAGE = 0, range(5), 20  # P, two P-T and two RI-T; five curves and so on; the page
GIVEN = sbatch.parse(["partition=gpu,gpus=a100:2,cpus=4", "mem=16G,time=2:00:00"])
CPUS = sbatch.parse(["cpus=4,runs=1"])


def submit(workdir, given=GIVEN):
    said = []
    slurm.submit(STUDY, workdir, given, tell=said.append)
    return said


def parts_of(workdir):
    """The parts of each job that was submitted last, by its id."""
    record = cluster.read(workdir)
    return {j: n for a in record.arrays for j, n in zip(a.ids, a.jobs, strict=True)}


def test_every_part_is_submitted_once_with_what_it_waits_for(fake, done, workdir):
    said = submit(workdir)
    jobs, found = fake.jobs(), parts_of(workdir)
    assert sorted(n for numbers in found.values() for n in numbers) == list(range(PAGE + 1))
    runs, tuned = jobs["100"]["options"], jobs["101"]["options"]
    assert [found[f"100_{i}"] for i in range(3)] == [(0,), (2,), (4,)]  # P and RI-T
    assert [found[f"101_{i}"] for i in range(2)] == [(1,), (3,)]
    assert runs["array"] == "0-2%3"
    assert "dependency" not in runs
    assert tuned["dependency"] == "afterok:100_0"
    last = jobs[max(jobs)]["options"]
    assert last["dependency"] == "afterok:" + ":".join(j for j in jobs if j != max(jobs))
    for options in (runs, tuned, last):
        assert {"kill-on-invalid-dep": "yes", "requeue": "", "signal": "USR2@120",
                "partition": "gpu", "gpus-per-node": "a100:2", "cpus-per-task": "4",
                "mem": "16G", "time": "120"}.items() <= options.items()  # fmt: skip
        assert "wckey" not in options
    assert said[:2] == [
        "job 100_[0-2]: train P, train RI-T",
        "job 101_[0-1]: train P-T, after 100",
    ]


def test_jobs_hold_numbers_and_places_alone(fake, done, workdir):
    import submitit

    submit(workdir)
    pickle = workdir / "jobs" / "101_1_submitted.pkl"
    assert pickle.stat().st_size < 1000
    job = submitit.helpers.DelayedSubmission.load(pickle).function
    digest = files.digest(files.tasks(STUDY, workdir))
    assert vars(job) == {
        "workdir": str(workdir),
        "numbers": (3,),
        "workers": 4,
        "digest": digest,
        "log_to": (),
        "has_gpus": True,
        "config_file": None,
    }


def test_again_submits_only_what_is_neither_done_nor_in_the_queue(fake, done, workdir):
    submit(workdir)
    before = fake.jobs()
    assert submit(workdir) == []
    assert fake.jobs() == before
    # RI-T 2 fails, the rest of the runs is done, and what needs it is dropped by Slurm
    done.update(set(RUNS) - {4})
    fake.all_now("COMPLETED")
    fake.now("100_2", "FAILED", "NonZeroExitCode")
    needing = {j for j, n in parts_of(workdir).items() if set(n) - set(RUNS)}
    for job in needing:
        fake.now(job, "CANCELLED", "DependencyNeverSatisfied")
    submit(workdir)
    new = {j: o["options"] for j, o in fake.jobs().items() if j not in before}
    first, second, *_ = new
    job_of = cluster.read(workdir).job_of()
    found = {job_of[number] for number in RUNS}
    assert found == {"100_0", "100_1", f"{first}_0", "101_0", "101_1"}
    assert "dependency" not in new[first]  # RI-T 2 and what is asked of the others
    assert new[second]["dependency"] == f"afterok:{first}_0"
    assert submit(workdir) == []
    done.update(range(PAGE + 1))
    assert submit(workdir) == []


def test_what_waits_for_what_failed_is_cancelled_and_submitted_anew(fake, done, workdir):
    submit(workdir)
    fake.now("100", "COMPLETED")
    done.update({0, 2, 4})
    fake.now("101_0", "FAILED")
    submit(workdir)  # before Slurm has looked at what depends
    cancelled = set(fake.read()["cancelled"])
    page = next(j for j, n in list(parts_of(workdir).items()) if PAGE in n)
    assert page in cancelled
    assert "101_1" not in cancelled
    job_of = cluster.read(workdir).job_of()
    assert job_of[PAGE] not in cancelled
    assert int(job_of[1]) > int(page)


def test_jobs_of_a_command_that_was_killed_are_not_there_twice(fake, done, workdir, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(workdir, record):
        if record.arrays:
            raise Killed
        cluster_write(workdir, record)

    cluster_write = cluster.write
    monkeypatch.setattr(cluster, "write", killed)
    with pytest.raises(Killed):
        submit(workdir)
    monkeypatch.setattr(cluster, "write", cluster_write)
    assert list(fake.jobs()) == ["100"]  # in the queue, and in no file
    fake.now("100_1", "RUNNING")  # it saves when it is cancelled, and holds its folder until then
    assert submit(workdir)[0].startswith("jobs that nobody needs are cancelled; the new ones begin")
    options = [job["options"] for job in fake.jobs().values()][1:]
    assert options[0]["dependency"] == "afterany:100_1"
    assert options[1]["dependency"] == "afterok:101_0,afterany:100_1"
    assert sorted(fake.read()["cancelled"]) == ["100_0", "100_1", "100_2"]
    queued = [s for job in fake.jobs().values() for s in job["states"].values()]
    queued = [s for s in queued if s["state"] == "PENDING"]
    assert len(queued) == len(parts_of(workdir))


@pytest.mark.parametrize("given", [GIVEN, sbatch.parse([])], ids=["given", "default"])
def test_variables_of_sbatch_do_not_undo_what_is_decided(fake, done, workdir, monkeypatch, given):
    variables = {"JOB_NAME": "mine", "ARRAY_INX": "7", "SIGNAL": "KILL@1", "NO_REQUEUE": "1",
                 "TIMELIMIT": "1", "PARTITION": "slow", "QOS": "long"}  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(f"SBATCH_{name}", value)
    said = submit(workdir, given)
    options = fake.jobs()["100"]["options"]
    assert options["job-name"] == cluster.read(workdir).name
    assert options["array"] == f"0-{len(fake.jobs()['100']['states']) - 1}%3"
    assert (options["signal"], options["time"]) == ("USR2@120", str(given.time))
    assert "no-requeue" not in options
    assert (options["partition"], options["qos"]) == (given.partition or "slow", "long")
    assert said[0].startswith("not taken from the environment: SBATCH_JOB_NAME, SBATCH_ARRAY_INX")
    assert os.environ["SBATCH_JOB_NAME"] == "mine"
    assert submit(workdir, given)[1:] == []  # they are found by their name


def test_arrays_are_no_longer_than_the_cluster_allows(fake, done, workdir):
    fake.change(max_array_size=2)
    submit(workdir)
    counts = [len(job["states"]) for job in fake.jobs().values()]
    assert max(counts) == 2
    assert "101_0" not in parts_of(workdir)  # RI-T 2, alone
    assert fake.jobs()["102"]["options"]["dependency"] == "afterok:100_0"


def test_what_the_cluster_does_not_take_is_told_and_submitted_later(fake, done, workdir):
    fake.change(most_jobs=4)
    with pytest.raises(ValueError, match="Slurm does not take the last") as error:
        submit(workdir)
    assert "QOSMaxSubmitJobPerUserLimit; the 3 before them are in the queue" in str(error.value)
    assert len(parts_of(workdir)) == 3
    fake.change(most_jobs=1000)
    submit(workdir)
    assert "100" in fake.jobs()
    found = parts_of(workdir)
    assert sorted(n for numbers in found.values() for n in numbers) == list(range(PAGE + 1))


@pytest.mark.parametrize("name", ["100%", "a\nb", "a\\b"])
def test_a_folder_whose_name_sbatch_misreads_is_refused(fake, tmp_path, name):
    workdir = tmp_path / name
    for act in (submit, lambda workdir: slurm.plan(STUDY, workdir, GIVEN)):
        with pytest.raises(ValueError, match="workdir: expected a path without %"):
            act(workdir)
    assert not workdir.exists()


def test_one_command_at_a_time(fake, done, workdir):
    with owner.hold(workdir), pytest.raises(owner.BusyError):
        submit(workdir)
    submit(workdir)
    with pytest.raises(ValueError, match=r"got \d+ in Slurm's queue .* scancel --name=tlx-tiny-"):
        runner.run(STUDY, workdir)


def test_without_slurm_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["study", "--config=configs/mini.py", f"--workdir={tmp_path / 'w'}", "--on=slurm"]
    assert cli.main([*words, "--plan"]) == 1
    assert "expected Slurm's scontrol on this machine, got none" in capsys.readouterr().err
    assert cli.main([*words[:-1], "--slurm=cpus=2"]) == 1
    assert "--slurm is for --on=slurm" in capsys.readouterr().err
    assert cli.main(words) == 1
    assert "expected Slurm's scontrol" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()  # so other values may follow


def test_at_the_command_line(fake, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(outline, "pace", lambda spec: outline.Pace(0.01, 1.0))
    few = ["--config.questions=('distances',)", "--config.replicates=2", "--config.forks=()"]
    words = ["study", "--config=configs/mini.py", f"--workdir={tmp_path / 'w'}", "--on=slurm"]
    words += ["--slurm=partition=none,gpus=1", *few]
    assert cli.main([*words, "--plan"]) == 0
    said = capsys.readouterr().out
    assert "each job: partition none, gpus 1, cpus 1, 4:00 h at most\nabout 0." in said
    assert "device-hours" in said
    assert "jobs to be submitted; before, 0 of" in said
    assert not (tmp_path / "w").exists()
    assert cli.main(words) == 1
    said = capsys.readouterr().err
    assert "error: invalid partition specified: none; nothing was submitted; mend " in said
    assert "runs=N" not in said
    assert list((tmp_path / "w" / "jobs").iterdir()) == []
    other = [word.replace("replicates=2", "replicates=3") for word in words]
    for more in (["--plan"], []):
        assert cli.main([*other, *more]) == 1
        assert "replicates: 2 there, 3 here" in capsys.readouterr().err
    assert cli.main([*words, "--slurm=time=1:00"]) == 1
    assert (
        "time: expected minutes, H:MM:SS, D-H, D-H:MM or D-H:MM:SS, got '1:00'"
        in capsys.readouterr().err
    )
    assert cli.main([word.replace("none", "gpu") for word in words]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("job 100_[0-")
    assert said[-1].endswith(f"0 in the queue; tlx status --workdir={tmp_path / 'w'}")


CHECKED = """
import sys
from pathlib import Path
from tests.studies.test_slurm import GIVEN, STUDY
from tlx.studies import slurm
slurm.submit(STUDY, Path(sys.argv[1]), GIVEN)
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""


def test_submitting_needs_no_device(fake, workdir):
    done = subprocess.run([sys.executable, "-c", CHECKED, str(workdir)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


class InJob:
    """A job of the fake Slurm, done by this process."""

    def __init__(self, workdir, monkeypatch, job):
        base, _, index = job.partition("_")
        there = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": base, "SLURM_ARRAY_TASK_ID": index}
        for name, value in (there | {"SUBMITIT_EXECUTOR": "slurm"}).items():
            monkeypatch.setenv(name, value)
        self.folder = workdir / "jobs"

    def __call__(self):
        from submitit.core import submission

        signals = (signal.SIGTERM, signal.SIGCONT, signal.SIGUSR2)
        before = {each: signal.getsignal(each) for each in signals}
        try:
            submission.process_job(self.folder)
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def test_a_job_does_its_parts(fake, workdir, monkeypatch):
    monkeypatch.setattr(resources, "workers", lambda: None)  # in this process
    submit(workdir, CPUS)
    InJob(workdir, monkeypatch, "100_1")()
    assert (workdir / "runs" / "ri-t_1" / "result.json").exists()
    assert [path.name for path in (workdir / "runs").iterdir()] == ["ri-t_1"]
    assert not (workdir / "parts").exists()
    fake.now("100_1", "COMPLETED")
    assert [item.state for item in status.of(workdir).items[:3]] == ["waiting", "waiting", "done"]


def test_a_job_loads_the_config_which_may_register_models(fake, workdir, monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "workers", lambda: None)
    monkeypatch.setenv("TLX_LOADED", "")
    monkeypatch.delenv("TLX_LOADED")
    (tmp_path / "own.py").write_text(
        "import os\n"
        "import ml_collections\n"
        "from tlx import models\n"
        "os.environ['TLX_LOADED'] = '1'\n"
        "from tlx.models.fixup_resnet import FixupResNet\n"
        "models.MODELS['fixup_resnet'] = FixupResNet\n"
        "def get_config():\n    return ml_collections.ConfigDict()\n"
    )
    slurm.submit(STUDY, workdir, CPUS, tell=str, config_file=str(tmp_path / "own.py"))
    InJob(workdir, monkeypatch, "100_0")()
    assert "TLX_LOADED" not in os.environ  # it names what every process knows
    monkeypatch.delitem(models.MODELS, "fixup_resnet")
    InJob(workdir, monkeypatch, "100_1")()
    assert (workdir / "runs" / "ri-t_1" / "result.json").exists()
    assert os.environ["TLX_LOADED"] == "1"


def test_a_job_says_what_gives_it_more_memory(fake, workdir, monkeypatch):
    found = {}
    monkeypatch.setattr(pool, "run", lambda *_, **more: found.update(more))
    submit(workdir, CPUS)
    InJob(workdir, monkeypatch, "100_1")()
    assert found["more_memory"] == "--slurm=mem=…"


def sent(signum):
    """In a run's place: the signal comes, and the run saves and stops."""

    def run_some(workdir, numbers, **_):
        with stopping.raised():
            os.kill(os.getpid(), signum)
            signal.pause()

    return run_some


def test_a_job_whose_time_is_nearly_over_is_put_back_so_many_times(
    fake, done, workdir, monkeypatch, capfd
):
    given = sbatch.parse(["time=1"])
    monkeypatch.setattr(slurm, "REQUEUES", 2)
    submit(workdir, given)
    job = InJob(workdir, monkeypatch, "100_0")
    monkeypatch.setattr(runner, "run_some", sent(signal.SIGUSR2))
    for time in (1, 2):
        with pytest.raises(SystemExit):
            job()
        assert fake.read()["requeued"] == ["100_0"] * time
    with pytest.raises(RuntimeError, match="timed-out too many times"):
        job()
    assert fake.read()["requeued"] == ["100_0"] * 2
    assert "its time was over 3 times" in marks.read(workdir / "parts")[P].error
    fake.now("100_0", "FAILED")
    assert [i.state for i in status.of(workdir).items[:2]] == ["failed", "left"]


def test_a_job_is_put_back_where_it_has_to_make_room_and_not_where_it_is_cancelled(
    fake, done, workdir, monkeypatch
):
    submit(workdir, CPUS)
    monkeypatch.setattr(runner, "run_some", sent(signal.SIGTERM))
    with pytest.raises(SystemExit) as error:
        InJob(workdir, monkeypatch, "100_0")()
    assert error.value.code == 143
    assert fake.read()["requeued"] == []
    fake.change(preempted="2026-01-01T00:00:00")  # such a one Slurm puts back only if it kills it
    with pytest.raises(SystemExit):
        InJob(workdir, monkeypatch, "100_0")()
    assert fake.read()["requeued"] == ["100_0"]


def test_a_job_that_was_given_gpus_does_not_compute_without(fake, done, workdir, monkeypatch):
    submit(workdir)
    with pytest.raises(ValueError, match="expected JAX to compute on the GPUs"):
        InJob(workdir, monkeypatch, "100_0")()
    assert "pip install 'jax[cuda13]'" in marks.read(workdir / "parts")[P].error
    assert not (workdir / "runs").exists()


def test_a_job_of_another_version_does_nothing(fake, done, workdir, monkeypatch):
    submit(workdir, CPUS)
    monkeypatch.setattr(files, "digest", lambda tasks: "another")
    with pytest.raises(ValueError, match="expected the tlx that submitted this job"):
        InJob(workdir, monkeypatch, "100_0")()
    assert "does the study in other parts" in marks.read(workdir / "parts")[P].error
    assert not (workdir / "runs").exists()


def test_the_plan_of_jobs_is_a_table(fake, done, workdir):
    made = slurm.plan(STUDY, workdir, GIVEN)
    lines = made.text().splitlines()
    assert lines[0].split() == ["what", "array", "jobs", "parts", "after"]
    assert lines[2].split() == ["train", "P,", "train", "RI-T", "1", "3", "3"]
    assert lines[3].split() == ["train", "P-T", "2", "2", "2", "1"]
    assert not workdir.exists()
    assert fake.jobs() == {}
    assert GIVEN.text() == "partition gpu, gpus a100:2, cpus 4, mem 16G, 2:00 h at most"
