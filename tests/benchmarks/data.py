"""What data cost a training run: `python -m tests.benchmarks.data`.

Prints a line of JSON for each benchmark and case: a ratio, its aim, and what was measured.

- `data_wait_share`: the share of a training step's time that is there because of its batch: one
  minus the time of steps on one batch that is on the device already, over that of steps as the loop
  makes them; the median over interleaved runs of steps. The mini's data, and images of CIFAR's
  shape, flipped and cropped, for the mini's net and a ResNet-18 of a quarter of the width.
- `images_per_second_per_core`: JPEG files of 500x375 read, decoded, cut at random, resized to 224,
  flipped and normalised, over the same by PyTorch's DataLoader with Pillow in as many processes as
  there are cores. Without torch (`pip install torch`) there is our number alone.
- `identity_seconds_per_10000_files`: the seconds (as `ratio`) in which a fresh process knows again
  what 10,000 image files of 20 kB hold, once another has read them; the median over starts, without
  imports.

Where other work shares the cores, times say little.
"""

import argparse
import dataclasses
import functools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tests.benchmarks import timing, training
from tlx import config
from tlx.data import host_ops
from tlx.data.examples import load
from tlx.data.labelled import ArraySource
from tlx.data.loader import train_batches
from tlx.data.sources import register_source
from tlx.data.spec import DataSpec
from tlx.train.spec import RunSpec

BENCHMARKS = ("wait", "decode", "identity")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILES, BATCH, SIZE = 256, 64, 224
IDENTITY_FILES, IDENTITY_BYTES = 10_000, 20_000
IDENTITY = """
import json, sys, time
from tlx.data.sources import open_source
import tlx.data.sources.folder
start = time.perf_counter()
digest = open_source("folder", "train", sys.argv[1]).fingerprint
print(json.dumps([digest, time.perf_counter() - start]))
"""
AHEAD = 10  # batches; more than either loader decodes ahead


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    parser.add_argument("--repeats", type=int, default=7, help="interleaved pairs of each")
    args = parser.parse_args()
    if "wait" in args.only:
        register_source("cifar_shaped", functools.cache(cifar_shaped))
        for case in ("mini", "cifar, the mini's net", "cifar, ResNet-18 of width 16"):
            wait_share(case, args.repeats)
    if "decode" in args.only:
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder))
            decode(Path(folder), args.repeats)
    if "identity" in args.only:
        with tempfile.TemporaryDirectory() as folder:
            identity(Path(folder), args.repeats)


def cifar_shaped(split: str) -> ArraySource:
    count = {"train": 50_000, "test": 64}[split]
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    return ArraySource("cifar_shaped", split, images, np.arange(count) % 10, 10)


def spec_of(case: str) -> RunSpec:
    spec = config.build(RunSpec, config.load("configs/mini.py:scratch"))
    if case == "mini":
        return spec
    data = dataclasses.replace(
        spec.data,
        name="cifar_shaped",
        train_size=None,
        channels=3,
        mean=MEAN,
        std=STD,
        augment=("flip", "crop"),
        batch_size=128,
    )
    spec = dataclasses.replace(spec, data=data)
    if "ResNet-18" not in case:
        return spec
    model = dataclasses.replace(
        spec.model, name="fixup_resnet18", options={"width": 16, "stem": "small"}
    )
    return dataclasses.replace(spec, model=model)


def wait_share(case: str, repeats: int) -> None:
    batches, step = training.make(spec_of(case))
    fixed = next(batches)
    steps = 10 if "ResNet-18" in case else 200

    def run(of: Callable[[], Any]) -> Any:
        for _ in range(steps):
            metrics = step(of())
        return metrics

    found = timing.ratio(
        lambda: run(lambda: next(batches)), lambda: run(lambda: fixed), repeats=repeats
    )
    timing.emit(
        benchmark="data_wait_share",
        ratio=round(max(0.0, 1 - 1 / found["ratio"]), 4),
        aim=0.05,
        case=case,
        step_ms=round(1e3 * found["seconds"] / steps, 3),
        step_ms_on_one_batch=round(1e3 * found["bound_seconds"] / steps, 3),
        steps=steps,
        pairs=repeats,
    )


def write_files(folder: Path) -> None:
    """JPEGs with content at several scales, as photographs have it."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(FILES):
        total = np.zeros((375, 500, 3), np.float32)
        for side in (4, 16, 64, 256):
            coarse = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
            smooth = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
            total += np.asarray(smooth, np.float32) / math.sqrt(side)
        scaled = 255 * (total - total.min()) / (total.max() - total.min())
        file = folder / "train" / str(i % 4) / f"{i}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scaled.astype(np.uint8)).save(file, quality=90)


def decode(folder: Path, repeats: int) -> None:
    spec = DataSpec(
        name="folder",
        folder=str(folder),
        test_split="train",
        image_size=SIZE,
        channels=3,
        mean=MEAN,
        std=STD,
        augment=("resized_crop", "flip"),
        batch_size=BATCH,
    )
    cores = os.cpu_count() or 1
    mine = train_batches(load(spec, "train"), spec, seed=0)
    theirs = torch_batches(folder, cores)
    steps = 2 * FILES // BATCH
    speeds: dict[str, list[float]] = {"tlx": [], "torch": []}
    for _ in range(repeats):
        for name, batches in (("tlx", mine), ("torch", theirs)):
            if batches is not None:
                for _ in range(AHEAD):  # those that were made while the other's turn was
                    jax.block_until_ready(next(batches)["inputs"])
                start = time.perf_counter()
                for _ in range(steps):
                    jax.block_until_ready(next(batches)["inputs"])
                speeds[name].append(steps * BATCH / (time.perf_counter() - start) / cores)
    own = statistics.median(speeds["tlx"][1:])
    peer = statistics.median(speeds["torch"][1:]) if theirs else math.nan
    pairs = zip(speeds["tlx"][1:], speeds["torch"][1:], strict=bool(theirs))
    ratio = statistics.median(a / b for a, b in pairs) if theirs else math.nan
    timing.emit(
        benchmark="images_per_second_per_core",
        ratio=round(ratio, 3) if theirs else "torch is not installed",
        aim=1.0,
        tlx=round(own, 1),
        torch=round(peer, 1) if theirs else None,
        cores=cores,
        megabytes=round(sum(f.stat().st_size for f in folder.rglob("*.jpg")) / 2**20, 1),
        files=FILES,
    )


def identity(folder: Path, repeats: int) -> None:
    """What a fresh process needs to know again whose data 10,000 image files are."""
    noise = np.random.default_rng(0).bytes(IDENTITY_BYTES)
    for i in range(IDENTITY_FILES):
        file = folder / "data/train" / str(i % 100) / f"{i}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(i.to_bytes(4) + noise)
    time.sleep(2.5)  # newer files are read each time
    environ = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    words = [sys.executable, "-c", IDENTITY, str(folder / "data")]
    found = [
        json.loads(subprocess.check_output(words, env=environ, text=True))
        for _ in range(repeats + 1)
    ]
    assert len({digest for digest, _ in found}) == 1
    first, *others = [seconds for _, seconds in found]
    timing.emit(
        benchmark="identity_seconds_per_10000_files",
        ratio=round(statistics.median(others), 3),
        aim=1.0,
        slowest_seconds=round(max(others), 3),
        first_seconds=round(first, 3),
        megabytes=round(IDENTITY_FILES * IDENTITY_BYTES / 2**20),
        starts=repeats,
    )


def torch_batches(folder: Path, workers: int) -> Iterator[dict[str, Any]] | None:
    """The same by PyTorch's DataLoader; None without torch."""
    try:
        import torch
        import torch.utils.data
    except ImportError:
        return None
    files = sorted(folder.rglob("*.jpg"))
    loader = torch.utils.data.DataLoader(
        _Files(files), BATCH, shuffle=True, num_workers=workers, persistent_workers=True
    )

    def forever() -> Iterator[dict[str, Any]]:
        while True:
            for batch in loader:
                yield {"inputs": batch.numpy()}

    return forever()


class _Files:
    """What torchvision's RandomResizedCrop, flip, ToTensor and Normalize do, with Pillow."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Any:
        import torch
        from PIL import Image

        rng = np.random.default_rng(torch.randint(2**31, ()).item())
        with Image.open(self._files[index]) as file:
            image = file.convert("RGB")
        top, left, height, width = host_ops.crop_box(image.height, image.width, rng)
        image = image.crop((left, top, left + width, top + height))
        image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        mean, std = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
        return tensor.sub_(mean).div_(std)


if __name__ == "__main__":
    main()
