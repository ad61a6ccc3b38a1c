"""A gallery shows the images that the models answered, also where some cannot be read."""

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from tlx.data import loader
from tlx.data.spec import DataSpec
from tlx.studies import trained
from tlx.studies.questions import Mistakes

Image = pytest.importorskip("PIL.Image")

WRONG = [20, 60, 100, 140]


def dog_where(values: list[int]) -> Any:
    """A model that says dog for the images of these values."""

    def apply_fn(params: Any, inputs: Any) -> Any:
        value = jnp.rint(255 * inputs[:, 0, 0, 0]).astype(jnp.int32)
        is_dog = jnp.isin(value, jnp.array(values))[:, None]
        return jnp.where(is_dog, jnp.array([[0.0, 1.0]]), jnp.array([[1.0, 0.0]]))

    return apply_fn


@pytest.mark.parametrize("max_bytes", [0, 2**30], ids=["lazily", "in memory"])
def test_the_images_are_those_that_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_bytes: int
) -> None:
    for split in ("train", "test"):
        for name, values in (("cat", range(0, 180, 20)), ("dog", [250])):
            (tmp_path / split / name).mkdir(parents=True)
            for value in values:
                file = tmp_path / split / name / f"{value:03}.png"
                Image.fromarray(np.full((4, 4), value, np.uint8)).save(file)
    (tmp_path / "test" / "cat" / "040.png").write_bytes(b"no image")
    data = DataSpec(
        name="folder", folder=str(tmp_path), image_size=4, channels=1, mean=(0.0,), std=(1.0,),
        eval_batch_size=4, max_bad=0.2,
    )  # fmt: skip
    models = {"P-T": dog_where([*WRONG, 250]), "RI-T": dog_where([250])}
    runs: Any = [
        SimpleNamespace(name=kind, kind=kind, spec=SimpleNamespace(loss="softmax", data=data))
        for kind in models
    ]
    monkeypatch.setattr(loader, "load", functools.partial(loader.load, max_bytes=max_bytes))
    monkeypatch.setattr(trained, "apply_fn", lambda run: models[run.name])
    monkeypatch.setattr(trained, "params", lambda run: {})
    monkeypatch.setattr(trained, "num_classes", lambda run: 2)
    found = Mistakes().answer(runs)
    assert found.gallery_total.tolist() == [4, 0, 0]
    there = found.gallery_index >= 0
    assert found.gallery_images[there][:, 0, 0, 0].tolist() == WRONG
    assert found.gallery_index[there].tolist() == [1, 3, 5, 7]
    assert (found.gallery_label[there] == 0).all()
    assert [trained.num_examples(runs[0], split) for split in ("train", "test")] == [10, 10]
    assert [trained.num_readable(runs[0], split) for split in ("train", "test")] == [10, 9]
