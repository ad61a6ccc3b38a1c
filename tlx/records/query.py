"""Looking records up by question and inputs."""

import os
from pathlib import Path
from typing import Any

from tlx.records.names import nearest
from tlx.records.schema import Record, canonical_json, plain
from tlx.records.store import load


def scan(root: str | os.PathLike[str]) -> tuple[list[Record], list[str]]:
    """Every whole record under `root`, and what is wrong with the others.

    Args:
        root: the records' folder.

    Returns:
        The records, sorted by question, then by the canonical JSON of their key; and a
        message for each file that looks like a record and cannot be read.

    Raises:
        ValueError: `root` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"no records in {root}: the folder does not exist; run the study first")
    found, problems = [], []
    for path in sorted(root.glob("*/*.json")):
        if path.name.startswith("."):
            continue
        try:
            found.append(load(path))
        except ValueError as error:
            problems.append(str(error))
    return sorted(found, key=lambda r: (r.question, canonical_json(r.key))), problems


def query(root: str | os.PathLike[str], question: str | None = None, **inputs: Any) -> list[Record]:
    """The records of a question whose inputs have the given values.

    Args:
        root: the records' folder.
        question: None means every question.
        **inputs: names and values of the key's `inputs`; a record matches if it has
            them all.

    Returns:
        The records in the order of `scan`; empty where none match.

    Raises:
        ValueError: `root` is no folder; a damaged record (all are listed); or a name
            that no record of this question has among its inputs.
    """
    found, problems = scan(root)
    if problems:
        raise ValueError("records cannot be read:\n" + "\n".join(problems))
    found = [r for r in found if question is None or r.question == question]
    wanted = {name: plain(value, name) for name, value in inputs.items()}
    known = sorted({name for r in found for name in r.inputs})
    for name in wanted if found else ():
        if name not in known:
            about = f"{question!r} record" if question else "record"
            raise ValueError(
                f"no {about} has the input {name!r}: known are {known}{nearest(name, known)}"
            )
    return [r for r in found if all(n in r.inputs and r.inputs[n] == v for n, v in wanted.items())]
