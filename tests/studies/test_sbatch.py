"""What each job of a Slurm cluster is given, and what sbatch is told."""

import os

import pytest

from tlx.studies import sbatch

LIMITS = "give the command again when some are done"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("partitoin=gpu", "unknown resource 'partitoin'"),
        ("time=yes,cpus=0", "D-H:MM or D-H:MM:SS, got 'yes'; cpus: expected a number from 1"),
        ("cpus=2,cpus=3", "cpus: expected it once, got it again as '3'"),
        ("gpus", "gpus: expected a number, or kind:number, got ''"),
        ("partition=gpu,gpus", "gpus: expected a number, or kind:number, got ''"),
        ("qos=a,b", "unknown resource 'b'"),
        ("qos=a,b", "a comma separates keys"),
        ("gpus=a100:0", "gpus: expected a number, or kind:number, got 'a100:0'"),
        ("partition=--wrap", "partition: expected a word, got '--wrap'"),
        ("nodelist=n[1-2]", "nodelist: expected the name of one node"),
        ("mem=16Q", "mem: expected a size like 32G"),
        *(
            (f"time={time}", f"got '{time}'")
            for time in ("0", "2:99:99", "1-25:00", "1-2:60", "99999999999", "366-0")
        ),
    ],
)
def test_resources_that_make_no_sense_are_told_at_once(words, said):
    with pytest.raises(ValueError, match="--slurm: ") as error:
        sbatch.parse([words])
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("1:30:00", 90), ("0:00:30", 1), ("1-2", 1560), ("0-0:05", 5), ("1-0:0:1", None)],
)
def test_times_are_in_slurms_words(text, minutes):
    if minutes is None:
        with pytest.raises(ValueError, match="time: expected"):
            sbatch.parse([f"time={text}"])
    else:
        assert sbatch.parse([f"time={text}"]).time == minutes


def test_commas_separate_keys_and_what_may_be_several():
    given = sbatch.parse(["partition=a,b,exclude=n[1-3,5],time=5", "mem=16gb,nodelist=n7"])
    assert (given.partition, given.exclude, given.time) == ("a,b", "n[1-3,5]", 5)
    assert (given.mem, given.nodelist) == ("16gb", "n7")
    told = sbatch.parameters(given, "name", "")
    assert (told["partition"], told["exclude"], told["nodelist"]) == ("a,b", "n[1-3,5]", "n7")


@pytest.mark.parametrize(
    ("words", "runs"),
    [("", 1), ("cpus=8", 8), ("cpus=8,runs=2", 2), ("cpus=8,gpus=1", 1), ("cpus=8,gpus=0", 8)],
)
def test_cores_without_gpus_have_a_run_each(words, runs):
    given = sbatch.parse([words] if words else [])
    assert (given.runs, given.gpus) == (runs, "1" if "gpus=1" in words else "")


def test_of_the_environment_only_what_was_not_given_stays(monkeypatch):
    for name in ("MEM_PER_CPU", "GRES", "ACCOUNT", "TIMELIMIT"):
        monkeypatch.setenv(f"SBATCH_{name}", "1")
    said = []
    with sbatch.environment(sbatch.parse(["gpus=1"]), said.append):
        there = {name for name in os.environ if name.startswith("SBATCH_")}
    assert there == {"SBATCH_MEM_PER_CPU", "SBATCH_ACCOUNT"}
    assert os.environ["SBATCH_GRES"] == "1"
    assert said == [
        "not taken from the environment: SBATCH_TIMELIMIT, SBATCH_GRES; tlx and --slurm decide it"
    ]
    monkeypatch.setenv("SBATCH_CLUSTERS", "other")
    with (
        pytest.raises(ValueError, match="got SBATCH_CLUSTERS=other"),
        sbatch.environment(sbatch.Resources(), said.append),
    ):
        pass


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: more", LIMITS),
        ("sbatch: error: AssocMaxSubmitJobLimit", LIMITS),
        ("error: invalid partition specified: x", "mend --slurm=partition=…, and give"),
        ("error: Invalid qos specification", "mend --slurm=qos=…, and"),
        ("error: Requested time limit is invalid (missing or exceeds some limit)", "=time=…, and"),
        ("error: Invalid account or account/partition combination specified",
         "--slurm=partition=… or --slurm=account=…"),
        ("error: Unable to contact slurm controller", "controller; nothing was submitted"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_with_what_helps(said, remedy):
    told = sbatch.refused(0, 3, said)
    assert told.startswith("Slurm does not take the last 3 of 3 jobs: ")
    assert remedy in told
    assert (LIMITS in told) == (remedy == LIMITS)
