"""Checkpoints: saved with their origin, restored by step, "last" or "best"."""

from tlx.checkpoints.provenance import Origin, at, chain, identity, make_origin
from tlx.checkpoints.restore import (
    DamagedError,
    origin,
    resolve,
    restore,
    restore_resume,
    step_path,
)
from tlx.checkpoints.save import DROPPED, NonFiniteError, Writer, is_tidy, keep_first, tidy
from tlx.checkpoints.select import scheduled, steps

__all__ = [
    "DROPPED",
    "DamagedError",
    "NonFiniteError",
    "Origin",
    "Writer",
    "at",
    "chain",
    "identity",
    "is_tidy",
    "keep_first",
    "make_origin",
    "origin",
    "resolve",
    "restore",
    "restore_resume",
    "scheduled",
    "step_path",
    "steps",
    "tidy",
]
