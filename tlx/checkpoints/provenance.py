"""Where weights come from: the run and step, and the checkpoint that run started from.

An origin is a dict of JSON values, kept in every checkpoint:
`{"run", "kind", "digest", "data", "step", "score", "init_from", "weights"}`, where `digest` names
the run's spec, `data` says what the examples of each split are (`tlx.data.examples.content`; None:
of no run), `score` is the test accuracy there (None: not evaluated), `init_from` the origin of the
weights that the run started from (None: random initialisation) and `weights` the sha256 of the
weights themselves, which is there once they are saved.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Origin: TypeAlias = Mapping[str, Any]


def make_origin(
    run: str,
    kind: str,
    digest: str,
    init_from: Origin | None,
    *,
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The origin of a run at step 0; `at` gives that of its later steps.

    Args:
      run: name of the run.
      kind: its kind ("P", "P-T" …).
      digest: sha256 of the run's spec.
      init_from: origin of the weights that it starts from; None: random initialisation.
      data: what the examples of its splits are, each with "digest" and "count".
    """
    parent = None if init_from is None else dict(init_from)
    return {
        "run": run,
        "kind": kind,
        "digest": digest,
        "data": None if data is None else dict(data),
        "step": 0,
        "score": None,
        "init_from": parent,
    }


def at(origin: Origin, step: int, score: float | None) -> dict[str, Any]:
    """The origin of another step of the same run."""
    return {**origin, "step": step, "score": score}


def chain(origin: Origin) -> tuple[Origin, ...]:
    """The origin, then that of the weights it started from, and so on to the first run.

    >>> [o["run"] for o in chain({"run": "P-T", "init_from": {"run": "P", "init_from": None}})]
    ['P-T', 'P']
    """

    def walk(link: Origin | None) -> Iterator[Origin]:
        while link is not None:
            yield link
            link = link["init_from"]

    return tuple(walk(origin))


def identity(origin: Origin) -> str:
    """The sha256 (hex) of what determines the weights, and of the weights, along the chain.

    That is the digests of specs and of the examples of each split, the steps, and the weights as
    they were saved. Names, kinds and scores are left out, and so are places on disk.
    """
    links = [
        (
            link["digest"],
            link["step"],
            {split: part["digest"] for split, part in (link.get("data") or {}).items()},
            link.get("weights"),
        )
        for link in chain(origin)
    ]
    return hashlib.sha256(json.dumps(links, sort_keys=True).encode()).hexdigest()
