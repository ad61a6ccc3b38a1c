"""The config of the run that is killed; reading it makes its model and its images known to tlx."""

import json

import ml_collections

from tests.train.tiny import make_spec
from tlx import records
from tlx.config import serial

SPEC = make_spec(
    num_steps=60,
    eval_every=6,
    log_every=2,
    mixup=0.4,
    ema=0.9,
    data={"augment": ("flip",)},
    model={"options": {"normalise": True}},
    checkpoint={"rule": "log2", "resume_every": 5},
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """As `tlx train --config=` takes it."""
    values = json.loads(records.canonical_json(serial.to_dict(SPEC)))
    return ml_collections.ConfigDict(values)
