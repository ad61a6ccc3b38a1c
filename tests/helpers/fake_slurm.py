"""Slurm's commands as tests have them: they remember what they are told, and run nothing.

The state is one JSON file: the jobs by id, each with its options, and what the cluster allows. Run
as `sbatch`, `squeue`, … by small scripts in the fake's folder; imports nothing heavy.
"""

import json
import os
import re
import stat
import sys
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct", "srun")
IN_QUEUE = ("PENDING", "RUNNING")
OPTION_OF = {
    "ARRAY_INX": "array",
    "JOB_NAME": "job-name",
    "NO_REQUEUE": "no-requeue",
    "PARTITION": "partition",
    "QOS": "qos",
    "SIGNAL": "signal",
    "TIMELIMIT": "time",
}
"""Variables of sbatch that beat what a script says."""


class FakeSlurm:
    """A Slurm of a test.

    Args:
      folder: where its state and commands are.
      max_array_size: as in Slurm's configuration.
      most_jobs: that a user may have in the queue.
    """

    def __init__(self, folder: Path, *, max_array_size: int = 1001, most_jobs: int = 10**6):
        self.folder = folder
        folder.mkdir()
        self.state = folder / "state.json"
        facts = {"next": 100, "jobs": {}, "cancelled": [], "requeued": [], "preempted": "None"}
        limits = {"max_array_size": max_array_size, "most_jobs": most_jobs}
        self.state.write_text(json.dumps(facts | limits))
        for name in COMMANDS:
            path = folder / name
            path.write_text(
                f'#!/bin/sh\nexec {sys.executable} -S {__file__} {name} {folder} "$@"\n'
            )
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def read(self) -> dict:
        """All that it knows."""
        return json.loads(self.state.read_text())

    def jobs(self) -> dict:
        """The jobs of arrays as one, by id, as they were submitted."""
        return self.read()["jobs"]

    def change(self, **facts) -> None:
        """Sets what the cluster allows."""
        self.state.write_text(json.dumps(self.read() | facts))

    def now(self, job: str, state: str, reason: str = "None", *, forgotten: bool = False) -> None:
        """A job, or all of an array, is in this state; forgotten by all but the accounts."""
        facts = self.read()
        base, _, index = job.partition("_")
        for each, found in facts["jobs"][base]["states"].items():
            if index in ("", each):
                found.update(state=state, reason=reason, forgotten=forgotten)
        self.state.write_text(json.dumps(facts))

    def all_now(self, state: str) -> None:
        """Every job is in this state."""
        for job in self.jobs():
            self.now(job, state)


def sbatch(facts: dict, words: list[str]) -> str:
    script = Path(words[-1]).read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script, re.MULTILINE))
    options = {name: value.strip("'\"") for name, value in options.items()}
    for variable, option in OPTION_OF.items():  # which win
        if f"SBATCH_{variable}" in os.environ:
            options[option] = os.environ[f"SBATCH_{variable}"]
    count = 1
    if "array" in options:
        count = int(re.match(r"0-(\d+)", options["array"])[1]) + 1
    queued = [s for job in facts["jobs"].values() for s in job["states"].values()]
    if len([s for s in queued if s["state"] in IN_QUEUE]) + count > facts["most_jobs"]:
        sys.exit("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission "
                 "failed: Job violates accounting/QOS policy")  # fmt: skip
    if options.get("partition") == "none":
        sys.exit("sbatch: error: invalid partition specified: none")
    number, facts["next"] = str(facts["next"]), facts["next"] + 1
    first = {"state": "PENDING", "reason": "None", "forgotten": False}
    states = {str(index) if "array" in options else "": dict(first) for index in range(count)}
    facts["jobs"][number] = {"options": options, "script": script, "states": states}
    return f"Submitted batch job {number}"


def _listed(facts: dict, *, forgotten: bool):
    for number, job in facts["jobs"].items():
        for index, found in job["states"].items():
            if found["forgotten"] == forgotten:
                yield f"{number}_{index}" if index else number, job["options"], found


def squeue(facts: dict, words: list[str]) -> str:
    name = next(word for word in words if word.startswith("--name=")).removeprefix("--name=")
    form = next(word for word in words if word.startswith("--format=")).removeprefix("--format=")
    lines = ["a banner of the site | which is about | another | thing"]
    for job, options, found in _listed(facts, forgotten=False):
        if options["job-name"] == name:
            node = "n1" * (found["state"] == "RUNNING")
            values = {"%i": job, "%T": found["state"], "%r": found["reason"], "%N": node}
            lines.append("|".join(values[letter] for letter in form.split("|")))
    return "\n".join(lines)


def sacct(facts: dict, words: list[str]) -> str:
    return "\n".join(f"{job}|{s['state']}" for job, _, s in _listed(facts, forgotten=True))


def scancel(facts: dict, words: list[str]) -> str:
    for job in words[1:]:
        base, _, index = job.partition("_")
        facts["cancelled"].append(job)
        found = facts["jobs"][base]["states"][index]
        runs = found["state"] == "RUNNING"  # and saves, until it is killed
        found.update(state="COMPLETING" if runs else "CANCELLED", reason="None")
    return ""


def scontrol(facts: dict, words: list[str]) -> str:
    if words[0] == "requeue":
        facts["requeued"].append(words[1])
        return ""
    if words[0] == "show" and words[1] == "job":
        return f"JobId={words[2]}\n   PreemptTime={facts['preempted']} AccrueTime=Unknown"
    return f"KillWait                = 30 sec\nMaxArraySize            = {facts['max_array_size']}"


def srun(facts: dict, words: list[str]) -> str:
    raise SystemExit("no job runs here")


if __name__ == "__main__":
    command, state = sys.argv[1], Path(sys.argv[2], "state.json")
    known = json.loads(state.read_text())
    answer = globals()[command](known, sys.argv[3:])
    new = state.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(known))
    new.replace(state)
    print(answer)
