"""What each job of a Slurm cluster is given: the words of --slurm, and what sbatch is told.

Options come from the job's script, then from `SBATCH_*` of the environment, which beat the script's
without a word. So those of what is decided here are taken out of the environment meanwhile.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlx.core import checks

MOST_MINUTES = 365 * 24 * 60
"""That a job may be given."""

_ALWAYS = (
    *("JOB_NAME", "ARRAY_INX", "SIGNAL", "REQUEUE", "NO_REQUEUE", "TIMELIMIT", "OPEN_MODE"),
    *("OUTPUT", "ERROR", "DEPENDENCY", "JOBID", "WAIT", "CPUS_PER_GPU", "CPUS_PER_TASK"),
)
"""Variables, without SBATCH_, of what is decided for every job, or would have sbatch wait."""

_GPUS = ("GPUS", "GPUS_PER_NODE", "GPUS_PER_TASK", "GPUS_PER_SOCKET", "GRES")
_MEMORY = ("MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU")
_VARIABLES = {
    "partition": ("PARTITION",),
    "account": ("ACCOUNT",),
    "qos": ("QOS",),
    "constraint": ("CONSTRAINT",),
    "reservation": ("RESERVATION",),
    "exclude": ("EXCLUDE",),
    "nodelist": ("NODELIST",),
    "gpus": _GPUS,
    "mem": _MEMORY,
}
"""Those of what is decided where it was given."""

_SEVERAL = ("partition", "exclude")
"""What may be several, with commas between them."""


class Resources(NamedTuple):
    """What each job is given; "" is what the cluster gives.

    Attributes:
      partition: of the cluster, or several.
      account: that pays.
      qos: quality of service.
      constraint: on nodes, in Slurm's words.
      reservation: of nodes.
      exclude: nodes that it does not get.
      nodelist: the node that it gets.
      time: a job's most minutes, at least 1.
      gpus: of one node: a number, or kind:number.
      cpus: of one node. Without GPUs as many runs of a job go side by side.
      mem: of one node, in Slurm's words.
      runs: that a job does.
      parallel: jobs of one array that run at once, at most.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    exclude: str = ""
    nodelist: str = ""
    time: int = 240
    gpus: str = ""
    cpus: int = 1
    mem: str = ""
    runs: int = 1
    parallel: int = 256

    @property
    def seconds_to_save(self) -> int:
        """How long before its time is over a job is told."""
        return max(30, min(120, 6 * self.time))

    def text(self) -> str:
        """What each job is given, in words."""
        given = {n: v for n, v in self._asdict().items() if n not in ("time", "runs", "parallel")}
        words = [f"{name} {value}" for name, value in given.items() if value]
        return ", ".join([*words, f"{self.time // 60}:{self.time % 60:02d} h at most"])


_WORD = r"[^\s-]\S*", "a word"
_NUMBER = r"[1-9]\d*", "a number from 1"
_HOURS = r"([01]?\d|2[0-3])(:[0-5]\d(:[0-5]\d)?)?"
_PATTERNS = {
    "nodelist": (r"\w[\w.-]*", "the name of one node"),
    "time": (
        rf"\d+|\d+:[0-5]\d:[0-5]\d|\d+-{_HOURS}",
        "minutes, H:MM:SS, D-H, D-H:MM or D-H:MM:SS",
    ),
    "gpus": (r"0|(\w[\w.-]*:)?[1-9]\d*", "a number, or kind:number"),
    "cpus": _NUMBER,
    "mem": (r"(?i:\d+([KMGT]B?)?)", "a size like 32G"),
    "runs": _NUMBER,
    "parallel": _NUMBER,
}


def parse(words: Sequence[str]) -> Resources:
    """What jobs are given, from words like "partition=gpu,time=4:00:00".

    Where no GPUs and no `runs` are given, a job does as many runs as it has `cpus`.

    Raises:
      ValueError: listing all that is wrong.
    """
    problems, values = [], dict[str, Any]()
    for name, equals, value in _pairs(words):
        form, meaning = _PATTERNS.get(name, _WORD)
        if name not in Resources._fields:
            more = "" if equals else "; a comma separates keys"
            problems.append(checks.unknown("resource", name, Resources._fields) + more)
        elif name in values:
            problems.append(f"{name}: expected it once, got it again as {value!r}")
        elif not equals or not re.fullmatch(form, value):
            problems.append(f"{name}: expected {meaning}, got {value!r}")
        else:
            values[name] = value
    if not problems and "time" in values:
        minutes = _minutes(values["time"])
        if not 1 <= minutes <= MOST_MINUTES:
            most = f"at least a minute and at most {MOST_MINUTES // 1440} days"
            problems.append(f"time: expected {most}, got {values['time']!r}")
        values["time"] = minutes
    if problems:
        raise ValueError("--slurm: " + "; ".join(problems))
    values |= {name: int(values[name]) for name in ("cpus", "runs", "parallel") if name in values}
    if values.get("gpus") == "0":
        del values["gpus"]
    if "gpus" not in values:
        values.setdefault("runs", values.get("cpus", 1))
    return Resources(**values)


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Names and values; what stands between commas without a name belongs to the one before."""
    found = list[str]()
    for word in words:
        for index, piece in enumerate(word.split(",")):
            goes_on = index and "=" not in piece and piece not in Resources._fields
            if goes_on and found[-1].startswith(tuple(f"{name}=" for name in _SEVERAL)):
                found[-1] += f",{piece}"
            else:
                found.append(piece)
    return (pair.partition("=") for pair in found)


def _minutes(text: str) -> int:
    """Slurm's ways to write a time, rounded up."""
    days, _, clock = text.rpartition("-")
    fields = [int(field) for field in clock.split(":")]
    if not days and len(fields) == 1:
        return fields[0]
    hours, minutes, seconds = (*fields, 0, 0)[:3]
    return (int(days or 0) * 24 + hours) * 60 + minutes + (seconds > 0)


def parameters(resources: Resources, name: str, dependency: str) -> dict[str, Any]:
    """Those of submitit, for jobs of this name that wait for others; "" for none."""
    more = {"kill-on-invalid-dep": "yes", "requeue": True}
    if resources.reservation:
        more["reservation"] = resources.reservation
    named = ("partition", "account", "qos", "constraint", "exclude", "nodelist", "mem")
    return {
        **{name: getattr(resources, name) or None for name in named},
        "job_name": name,
        "time": resources.time,
        "signal_delay_s": resources.seconds_to_save,
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus or None,
        "array_parallelism": resources.parallel,
        "dependency": dependency or None,
        "stderr_to_stdout": True,
        "wckey": None,  # submitit's own is none of this cluster's
        "srun_args": [f"--cpus-per-task={resources.cpus}"],  # which srun does not take from sbatch
        "additional_parameters": more,
    }


@contextlib.contextmanager
def environment(resources: Resources, tell: Callable[[str], None]) -> Iterator[None]:
    """Without variables that would beat what is decided here, which are told.

    Raises:
      ValueError: a variable has jobs go to another cluster than the one that is asked.
    """
    if "SBATCH_CLUSTERS" in os.environ:
        raise ValueError(
            "expected jobs to go to the cluster of this machine, got SBATCH_CLUSTERS="
            f"{os.environ['SBATCH_CLUSTERS']} in the environment; unset it, and give the command "
            "on a login node of the cluster that is meant"
        )
    given = [name for name, words in _VARIABLES.items() if getattr(resources, name)]
    names = [*_ALWAYS, *(word for name in given for word in _VARIABLES[name])]
    there = [name for word in names if (name := f"SBATCH_{word}") in os.environ]
    before = {name: os.environ.pop(name) for name in there}
    try:
        if before:
            tell(f"not taken from the environment: {', '.join(before)}; tlx and --slurm decide it")
        yield
    finally:
        os.environ.update(before)


def require_plain(workdir: Path) -> None:
    """Raises where sbatch would not write and read in a folder of this name.

    Raises:
      ValueError: it takes some of its letters for something else.
    """
    if re.search(r"[%\\\x00-\x1f\x7f]", str(workdir)):
        raise ValueError(
            "workdir: expected a path without %, \\ and control characters, which sbatch takes for "
            f"something else, got {str(workdir)!r}; choose another, or a link to it"
        )


_KEYS = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "reservation": "reservation",
    "time limit": "time",
    "memory": "mem",
    "gres": "gpus",
    "feature": "constraint",
    "node name": "nodelist",
}
"""Words of Slurm's refusals, and the keys of --slurm that they are about."""


def refused(taken: int, left: int, said: str) -> str:
    """That Slurm does not take jobs, why, and what helps.

    Args:
      taken: jobs that it took before.
      left: jobs that it did not take.
      said: by it.
    """
    why = next((line.strip() for line in said.splitlines() if line.strip()), "no reason")
    so_far = f"the {taken} before them are in the queue" if taken else "nothing was submitted"
    whole = f"Slurm does not take the last {left} of {taken + left} jobs: {why}; {so_far}"
    if re.search("Limit|QOS|Max", said):
        return (
            f"{whole}; where it allows a number of jobs at a time, give the command again when "
            "some are done, which submits the rest, or have each job do more, by --slurm=runs=N"
        )
    keys = [f"--slurm={key}=…" for word, key in _KEYS.items() if word in said.lower()]
    return f"{whole}; mend {' or '.join(keys)}, and give the command again" if keys else whole
