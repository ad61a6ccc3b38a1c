"""Checkpoints: saved with their origin, restored by step, "last" or "best"."""

from tlx.checkpoints.provenance import Origin, at, chain, identity, make_origin
from tlx.checkpoints.restore import origin, resolve, restore, restore_resume, step_path
from tlx.checkpoints.save import NonFiniteError, Writer
from tlx.checkpoints.select import scheduled, steps

__all__ = [
    "NonFiniteError",
    "Origin",
    "Writer",
    "at",
    "chain",
    "identity",
    "make_origin",
    "origin",
    "resolve",
    "restore",
    "restore_resume",
    "scheduled",
    "step_path",
    "steps",
]
