"""A first config for a study on one's own images: `tlx init`."""

import math
import string
import tempfile
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tlx import config
from tlx.data import check, examples
from tlx.data.spec import DataSpec
from tlx.report.words.numbers import count
from tlx.studies import outline, resources
from tlx.studies.spec import StudySpec
from tlx.train import importing

TEMPLATES = Path(__file__).with_name("templates")

SAMPLE = 500
"""Images that the mean and the deviation are measured of."""

FEWEST, MOST = 40, 3000
"""Steps of a run on the target."""

TRIAL = 300
"""Steps of a run in the config that is tried."""

COMPILING = 90.0
"""Seconds of a study that go into compiling, about."""

NO_START = (
    "expected something to pretrain on or to start from, got none: name a folder of other images "
    "by --source=FOLDER, or weights by --weights=WORKDIR (tlx import makes one; the header of "
    "configs/mobilenet.py says where ImageNet's are)"
)


class Measured(NamedTuple):
    """A folder of images.

    Attributes:
      folder: its path, as given.
      train: the number of training images.
      test: that of test images.
      classes: their names.
      channels: 1 where all are grey, else 3.
      mean: of the pixels in 0 … 1, by channel.
      std: likewise.
    """

    folder: str
    train: int
    test: int
    classes: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Written(NamedTuple):
    """What was written.

    Attributes:
      target: the folder that is studied.
      num_steps: of a run on the target.
      seconds: that the study takes, about.
    """

    target: Measured
    num_steps: int
    seconds: float


def write(
    out: Path,
    target: str,
    *,
    source: str | None = None,
    weights: str | None = None,
    minutes: float = 30.0,
    image_size: int | None = None,
) -> Written:
    """Writes a config for a study of what is transferred to one's own images.

    Args:
      out: a file that does not exist.
      target: a folder with train/CLASS/image and test/CLASS/image.
      source: another one, on which P is trained.
      weights: instead of that, a workdir of imported weights, from which P is taken.
      minutes: that the study may take on this machine, about; its steps are chosen by a trial.
      image_size: to which images are cut and resized; None: 32 with a source (less for smaller
        images), 96 with weights.

    Raises:
      ValueError: in one sentence, for a file that is there, a folder that has another form, and
        neither source nor weights, or both.
    """
    if out.exists():
        raise ValueError(f"expected a new file, got {out}; choose another by --out, or remove it")
    if source is None and weights is None:
        raise ValueError(NO_START)
    if source is not None and weights is not None:
        raise ValueError("expected --source or --weights, got both; leave one out")
    if not minutes > 0:
        raise ValueError(f"expected minutes above 0, got {minutes}")
    imported = None if weights is None else importing.read(weights)
    if weights is not None and imported is None:
        raise ValueError(
            f"expected --weights as a workdir of tlx import, got {weights}, which is none"
        )
    size = image_size or _size(target, source)
    of_target = measure(target, size)
    of_source = None if source is None else measure(source, size)
    if imported is not None:
        of_target = of_target._replace(channels=3)
    elif of_source is not None and of_source.channels != of_target.channels:
        of_target, of_source = _in_colour(of_target, size), _in_colour(of_source, size)
    model = None if imported is None else imported["model"]
    trial = _text(of_target, of_source, weights, model, size, TRIAL, 0.0)
    spec = _spec(trial)
    rows, pace = outline.rows(spec, out.parent / ".none"), outline.pace(spec)
    workers = resources.workers() or 1
    training = sum(row.steps for row in rows if row.name.startswith("train ")) / TRIAL
    fixed = sum(row.seconds(pace) for row in rows) - TRIAL * training * pace.step
    wanted = (workers * (60 * minutes - COMPILING) - fixed) / (training * pace.step)
    num_steps = int(min(max(10 * math.floor(wanted / 10), FEWEST), MOST))
    seconds = COMPILING + (fixed + num_steps * training * pace.step) / workers
    text = _text(of_target, of_source, weights, model, size, num_steps, seconds)
    _spec(text)
    out.write_text(text)
    return Written(of_target, num_steps, seconds)


def measure(folder: str, image_size: int, channels: int | None = None) -> Measured:
    """What a folder of images holds.

    Raises:
      ValueError: if it has not train/CLASS/image and test/CLASS/image.
    """
    found = {split: check.check("folder", split, folder) for split in ("train", "test")}
    train = found["train"]
    for split, of in found.items():
        if of.bad:
            number, why = next(iter(of.bad.items()))
            raise ValueError(
                f"{folder}: {len(of.bad)} images of {split} cannot be read, such as number "
                f"{number} ({why}); tlx data check folder --folder={folder} --split={split} --all "
                "lists them"
            )
    is_grey = train.sizes[1][2] == 1
    channels = channels or (1 if is_grey else 3)
    spec = DataSpec(
        name="folder",
        folder=folder,
        train_size=min(SAMPLE, train.num_examples),
        image_size=image_size,
        channels=channels,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        batch_size=1,
        eval_batch_size=1,
    )
    pixels = np.asarray(examples.load_arrays(spec, "train").images, np.float64) / 255
    mean, std = pixels.mean((0, 1, 2)), np.maximum(pixels.std((0, 1, 2)), 0.01)
    return Measured(
        folder,
        train.num_examples,
        found["test"].num_examples,
        train.names,
        channels,
        tuple(round(float(x), 3) for x in mean),
        tuple(round(float(x), 3) for x in std),
    )


def _in_colour(of: Measured, size: int) -> Measured:
    return of if of.channels == 3 else measure(of.folder, size, 3)


def _size(target: str, source: str | None) -> int:
    if source is None:
        return 96
    smallest = min(
        min(check.check("folder", "train", folder).sizes[0][:2]) for folder in (target, source)
    )
    return 32 if smallest >= 24 else 16 if smallest >= 12 else 8


def _spec(text: str) -> StudySpec:
    """The study of a config's text, checked."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.py"
        file.write_text(text)
        spec = config.build(StudySpec, config.load(str(file)))
    problems = spec.problems()
    if problems:
        raise ValueError("\n".join(problems))
    return spec


def _text(
    target: Measured,
    source: Measured | None,
    weights: str | None,
    model: dict[str, Any] | None,
    size: int,
    num_steps: int,
    seconds: float,
) -> str:
    """The config."""
    words: dict[str, Any] = {
        "name": Path(target.folder).name,
        "start": Path(source.folder if source else str(weights)).name,
        "minutes": count(max(1, round(seconds / 60)), "minute"),
        "images": "\n".join(_told(of) for of in (target, source) if of),
        "num_steps": num_steps,
        "size": size,
        "channels": target.channels,
        "target": repr(target.folder),
        "target_mean": target.mean,
        "target_std": target.std,
    }
    if source is not None:
        words |= {
            "source": repr(source.folder),
            "source_mean": source.mean,
            "source_std": source.std,
            "shuffles": ("block:1", f"block:{max(2, size // 4)}"),
            "stages": (1,) * (2 if size <= 8 else 3 if size <= 16 else 4),
        }
    if model is not None:
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in model["options"].items()}
        words |= {"weights": repr(weights), "model": model["name"], "options": options}
    template = TEMPLATES / ("source.txt" if source else "weights.txt")
    return string.Template(template.read_text(encoding="utf-8")).substitute(words)


def _told(of: Measured) -> str:
    shown = ", ".join(of.classes[:6]) + (", …" if len(of.classes) > 6 else "")
    return textwrap.fill(
        f"{of.folder}: {of.train:,} training and {of.test:,} test images of {len(of.classes)} "
        f"classes ({shown}).",
        100,
    )
