"""A config that registers a model of its own, as a user's does."""

import dataclasses

import ml_collections

from tests.studies.tiny import tiny_run, tiny_study
from tlx import models
from tlx.config import serial
from tlx.studies.axes import Axes

models.MODELS["own_net"] = models.MODELS["fixup_resnet"]


def get_config() -> ml_collections.ConfigDict:
    def run(name: str):
        spec = tiny_run(name, num_steps=2)
        return dataclasses.replace(spec, model=dataclasses.replace(spec.model, name="own_net"))

    study = tiny_study(
        pretrain=run("P"),
        finetune=run("P-T"),
        scratch=run("RI-T"),
        questions=("distances",),
        axes=Axes(),
        partial=(),
    )
    return ml_collections.ConfigDict(serial.to_dict(study))
