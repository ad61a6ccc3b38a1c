"""A run of a second: small random images that can be learnt, and networks of two layers."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from tlx import models
from tlx.data.labelled import ArraySource
from tlx.data.sources import register_source
from tlx.data.spec import DataSpec
from tlx.train import metrics_log
from tlx.train.spec import CheckpointSpec, ModelSpec, OptimSpec, RunSpec

CLASSES = 4
TRACES: list[str] = []
"""One entry for each time a model is traced in training mode."""


class Tiny(nn.Module):
    num_classes: int
    width: int = 6
    normalise: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, inputs: Any, train: bool = False) -> Any:
        if train:
            TRACES.append("train")
        x = nn.Conv(self.width, (3, 3), strides=(2, 2), name="stem")(inputs)
        if self.normalise:
            x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = jax.nn.relu(x).reshape(len(x), -1)
        return nn.Dense(self.num_classes, name="head")(x)


def _source(split: str) -> ArraySource:
    rng = np.random.default_rng({"train": 0, "test": 1}[split])
    size = {"train": 48, "test": 30}[split]
    labels = rng.integers(0, CLASSES, size)
    patterns = np.random.default_rng(7).integers(0, 255, (CLASSES, 8, 8, 1))
    noise = rng.integers(0, 255, (size, 8, 8, 1))
    images = (0.4 * patterns[labels] + 0.6 * noise).astype(np.uint8)
    return ArraySource("tiny", split, images, labels, CLASSES)


def _multi(split: str) -> ArraySource:
    single = _source(split)
    labels = np.stack([single.labels % 2, single.labels // 2, single.labels == 0], 1)
    return ArraySource("tiny_multi", split, single.images, labels.astype(np.float32), 3)


register_source("tiny", _source)
register_source("tiny_multi", _multi)
models.MODELS["tiny"] = Tiny

DATA = DataSpec(
    name="tiny",
    image_size=8,
    channels=1,
    mean=(0.5,),
    std=(0.3,),
    batch_size=16,
    eval_batch_size=32,
)


def make_spec(**changes: Any) -> RunSpec:
    """A spec of 12 steps; `optim`, `data`, `model` and `checkpoint` take dicts of changes."""
    parts = {
        "model": ModelSpec(name="tiny"),
        "data": DATA,
        "optim": OptimSpec(rate=0.05, schedule="cosine"),
        "checkpoint": CheckpointSpec(rule="log2"),
    }
    for name, part in parts.items():
        parts[name] = dataclasses.replace(part, **changes.pop(name, {}))
    fields = {
        "name": "tiny",
        "kind": "P",
        "seed": 0,
        "num_steps": 12,
        "eval_every": 3,
        "log_every": 1,
    }
    return RunSpec(**{**parts, **fields, **changes})


def assert_close_metrics(a: Path, b: Path) -> None:
    """The same lines in two workdirs, numbers to 1e-5."""
    for left, right in zip(metrics_log.read(a), metrics_log.read(b), strict=True):
        for key in ("split", "step", "count"):
            assert left.pop(key) == right.pop(key)
        assert left == pytest.approx(right, rel=1e-5, abs=1e-5)
