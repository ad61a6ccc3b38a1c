"""What is on disk: where a kill has hit, whether all that counts is whole, and what differs."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from tlx import checkpoints, records
from tlx.core import tree
from tlx.records.schema import as_mapping

_ITEMS = ("weights", "resume")  # orbax's own files are in these
_TIMES = re.compile(
    r'(?<="seconds": )[0-9.e-]+|(?<=data-of="seconds">)[^<]+|(?<=<p>Training took )[^<]+'
)


def hit(workdir: Path) -> str:
    """Where a kill has hit, by the state of the files that it left."""
    runs = _runs(workdir)
    names = [path.name for path in _listed(workdir)]
    if not names:
        return "before the first file"
    if any(".orbax-checkpoint-tmp" in name for name in names):
        return "while a checkpoint was written"
    if any((run / "checkpoints" / checkpoints.DROPPED).exists() for run in runs):
        return "while checkpoints were dropped"
    if any(name.endswith(".tmp") for name in names):
        return "while a record or the page was written"
    if any(re.fullmatch(r"\.(config|result|study)\.json.*|\.metrics\.jsonl.*", n) for n in names):
        return "while a small file was written"
    if any(name.startswith(".writer.") for name in names):
        return "while the workdir was claimed"
    return _hit_at_rest(workdir, runs)


def _hit_at_rest(workdir: Path, runs: list[Path]) -> str:
    """Where no file was being written."""
    if (workdir / "report.html").exists():
        return "after the page"
    under_way = [run for run in runs if not (run / "result.json").exists()]
    if runs and not under_way:
        is_study = (workdir / "study.json").exists()
        return "while questions were answered" if is_study else "after the result"
    if not any(checkpoints.steps(run) for run in under_way):
        return "before a first checkpoint"
    for run in under_way:
        file = run / "metrics.jsonl"
        text = file.read_text() if file.exists() else ""
        if text and not text.endswith("\n"):
            return "in a line of metrics"
        if text and json.loads(text.splitlines()[-1])["split"] == "train":
            return "in an evaluation"
    return "between saves"


def _runs(workdir: Path) -> list[Path]:
    """The workdirs of the runs in a workdir, of a run or of a study."""
    folder = workdir / "runs"
    return sorted(folder.iterdir()) if folder.is_dir() else [workdir]


def _listed(folder: Path) -> list[Path]:
    """All that is in a folder, without what orbax has within an item of a checkpoint."""
    found = []
    for place, folders, files in os.walk(folder):  # what vanishes meanwhile is left out
        if Path(place).name in _ITEMS:
            folders.clear()
        else:
            found += [Path(place, name) for name in (*folders, *files)]
    return sorted(found)


def broken(workdir: Path) -> list[str]:
    """What of that which counts as whole is not, at any moment; empty if nothing is."""
    found = []
    for run in _runs(workdir):
        for step in checkpoints.steps(run)[-2:]:
            try:
                checkpoints.restore(run, step, as_numpy=True)
            except ValueError as error:
                found.append(str(error))
    for path in workdir.rglob("*.json"):
        try:
            json.loads(path.read_text())
        except ValueError as error:
            found.append(f"{path}: {error}")
    return found


def differences(one: Path, other: Path) -> list[str]:
    """How what two workdirs hold at the end differs, apart from times and their own names."""
    names = [
        {str(path.relative_to(workdir)) for path in _listed(workdir)} for workdir in (one, other)
    ]
    found = [f"{name} is left out" for name in sorted(names[0] - names[1])]
    found += [f"{name} is left over" for name in sorted(names[1] - names[0])]
    for name in sorted(names[0] & names[1]):
        path = one / name
        if path.name == "telemetry.jsonl":  # times alone
            continue
        if path.name == "metadata" or path.suffix in (".json", ".jsonl", ".html"):
            if _text(one, name) != _text(other, name):
                found.append(f"{name} differs")
        elif path.suffix == ".npz":
            found += _of_records(path.with_suffix(".json"), (other / name).with_suffix(".json"))
    for run in _runs(one):
        found += _of_weights(run, other / run.relative_to(one))
    return found


def _text(workdir: Path, name: str) -> str:
    """The content of a file without its times and the name of the workdir."""
    text = (workdir / name).read_text().replace(str(workdir.absolute()), "")
    return re.sub(r'"npz_sha256": .*', "", _TIMES.sub("", text))  # arrays are compared by value


def _of_records(one: Path, other: Path) -> list[str]:
    a, b = (as_mapping(records.load(path).results) for path in (one, other))
    return [
        f"{other}: {name} differs"
        for name in sorted(a.keys() | b.keys())
        if name != "seconds" and not _equal(a.get(name), b.get(name))
    ]


def _of_weights(one: Path, other: Path) -> list[str]:
    """Leaves that differ in any bit."""
    found = []
    for step in sorted({*checkpoints.steps(one)} & {*checkpoints.steps(other)}):
        a, b = (
            tree.named_leaves(checkpoints.restore(run, step, as_numpy=True)) for run in (one, other)
        )
        found += [
            f"{other}: {name} of step {step} differs"
            for name in sorted(a.keys() | b.keys())
            if not _equal(a.get(name), b.get(name))
        ]
    return found


def _equal(a: Any, b: Any) -> bool:
    """Whether two arrays have the same bits."""
    return (
        a is not None
        and b is not None
        and np.asarray(a).dtype == np.asarray(b).dtype
        and np.asarray(a).shape == np.asarray(b).shape
        and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    )
