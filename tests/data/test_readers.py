"""Folders and lists that are not as they should be: read right, or refused by a sentence."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import mock_data
from tlx import cli
from tlx.analyses.function import mistakes, predictions
from tlx.data import examples, listing
from tlx.data.examples import load, load_arrays, open_split
from tlx.data.loader import eval_stream
from tlx.data.sources import open_source
from tlx.data.spec import DataSpec

Image = pytest.importorskip("PIL.Image")

SPEC = DataSpec(
    name="folder", train_split="training", test_split="validation", image_size=4, channels=1,
    mean=(0.0,), std=(1.0,), eval_batch_size=4,
)  # fmt: skip


def put(file: Path, value: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(file)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for split, names in (("training", ("cat", "dog", "fox")), ("validation", ("cat", "fox"))):
        for i, name in enumerate(names):
            put(tmp_path / split / name / f"{i}.png", i)
    return tmp_path


def of(root: Path, split: str) -> Any:
    return open_split(dataclasses.replace(SPEC, folder=str(root)), split)[0]


def test_classes_are_those_of_the_training_split(pets: Path) -> None:
    train, test = of(pets, "train"), of(pets, "test")
    assert train.class_names == test.class_names == ("cat", "dog", "fox")
    assert [test[i]["label"] for i in range(2)] == [0, 2]  # fox is 2 although dog is not there
    direct = open_source("folder", "validation", str(pets))  # the only split called train…
    assert [direct[i]["label"] for i in range(2)] == [0, 2]


def test_a_class_that_the_training_split_lacks(pets: Path) -> None:
    put(pets / "validation" / "wolf" / "0.png")
    (pets / "validation" / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"classes of the training images in 'training', got 1 others: wolf;"
    ):
        of(pets, "test")


def test_which_split_has_the_training_images_is_not_guessed(tmp_path: Path) -> None:
    for path in ("a/cat", "a/dog", "b/dog"):
        put(tmp_path / path / "0.png")
    with pytest.raises(ValueError, match=r"got different ones in 'b' and 'a'; .* data.train_split"):
        open_source("folder", "b", str(tmp_path))
    named = open_source("folder", "b", str(tmp_path), train_split="a")
    assert named[0]["label"] == 1
    with pytest.raises(ValueError, match=r"expected a folder 'c'"):
        open_source("folder", "b", str(tmp_path), train_split="c")


def test_what_is_no_image_is_counted(pets: Path, capsys: Any, caplog: Any) -> None:
    root = pets / "training"
    for name in ("a.pgm", "b.JFIF", "deep/er/c.png", "d.PNG"):
        kind = "JPEG" if "JFIF" in name else None
        (root / "cat" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(root / "cat" / name, format=kind)
    put(root / "__MACOSX" / "cat" / "0.png")
    put(root / ".hidden" / "0.png")
    put(root / "loose.png")
    (root / "empty" / "inner").mkdir(parents=True)
    for name in ("notes.txt", "._d.PNG", "film.mpg"):
        (root / "cat" / name).write_text("x")
    os.mkfifo(root / "cat" / "pipe.png")
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "self").symlink_to(root / "cat")
    source = of(pets, "train")
    assert source.class_names == ("cat", "dog", "fox")
    labels = [source[i]["label"] for i in range(len(source))]
    assert labels == [0, 0, 0, 0, 0, 1, 2]
    counts = {reason: len(paths) for reason, paths in source.left_out.items()}
    assert counts == {
        listing.HIDDEN: 3, listing.OUTSIDE: 1, listing.EMPTY: 1, listing.NO_IMAGE: 2,
        listing.NO_FILE: 1, listing.LOOP: 2,
    }  # fmt: skip
    assert cli.main(["data", "check", "folder", f"--folder={pets}", "--split=training"]) == 0
    assert "left out: 1 a folder without any image (empty); " in capsys.readouterr().out
    examples.log_left_out(dataclasses.replace(SPEC, folder=str(pets)))
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("folder, training: left out: 1 a folder without any image (empty); ")


def test_names_that_are_not_utf8(pets: Path) -> None:
    put(pets / "training" / "cat" / "ok.png")
    try:
        os.rename(
            pets / "training/cat/ok.png", os.fsencode(pets / "training/cat") + b"/caf\xe9.png"
        )
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    with pytest.raises(ValueError, match=r"expected names in UTF-8, got b'training/cat/caf\\xe9"):
        of(pets, "train")


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    mock_data.make_chexpert(tmp_path / "chexpert")
    mock_data.make_domainnet(tmp_path / "domainnet", domains=("real",))
    monkeypatch.setenv("TLX_DATA_DIR", str(tmp_path))
    return tmp_path


def rewritten(file: Path, change: Callable[[str], str]) -> None:
    file.write_bytes(change(file.read_text()).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("/", "\\"),
        lambda text: text + "\n\n",
        lambda text: text.rstrip("\n"),
    ],
    ids=["mark", "crlf", "backslash", "blank", "no end"],
)
def test_forms_of_lists_that_say_the_same(lists: Path, change: Callable[[str], str]) -> None:
    names = (("chexpert", "train"), ("domainnet/real", "train"))
    before = [open_source(*name) for name in names]
    for file in ("chexpert/train.csv", "domainnet/real_train.txt"):
        rewritten(lists / file, change)
    for old, new in zip(before, [open_source(*name) for name in names], strict=True):
        assert len(old) == len(new)
        for i in range(len(old)):
            np.testing.assert_array_equal(old[i]["image"], new[i]["image"])
            np.testing.assert_array_equal(old[i]["label"], new[i]["label"])


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[: t.rindex(",") - 8], r"train.csv:25: expected 10 cells, .* cut off\?"),
        (lambda t: "".join([*lines(t)[:3], lines(t)[3][:40] + "\n", *lines(t)[4:]]), r":4: expec"),
        (lambda t: "".join([*lines(t)[:3], "," + lines(t)[3]]), r":4: expected 10 cells.* got 11"),
        (lambda t: t + lines(t)[4], r"train.csv:26: expected each image once, .* in line 5"),
        (lambda t: t.replace("Edema", "Atelectasis", 1), "expected the columns Edema, got none"),
        (lambda t: t.replace("Sex", "Edema", 1), "expected each column once, got Edema"),
        (lambda t: t + ",".join(["", *["1"] * 9]) + "\n", r"26: expected the path of an image"),
        (lambda t: t + '"' + lines(t)[4], r":\d+: expected (csv|10 cells)"),
        (lambda t: "", "expected the columns Path"),
    ],
)  # fmt: skip
def test_chexpert_by_line(lists: Path, change: Callable[[str], str], message: str) -> None:
    rewritten(lists / "chexpert/train.csv", change)
    with pytest.raises(ValueError, match=message):
        open_source("chexpert", "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t + "real/class_0/new", r"real_train.txt:13: expected a path and a class"),
        (
            lambda t: t + "real/class_0/new.jpg 1",
            r":13: expected one number for each class, got 1 for 'class_0'",
        ),
        (
            lambda t: t + "real/class_9/new.jpg 1",
            r":13: expected one number for each class, got 1 for 'class_9'",
        ),
        (lambda t: t + "real/class_9/new.jpg 345", r":13: expected .* class number below 345"),
        (lambda t: t + "new.jpg 1", r":13: expected DOMAIN/CLASS/IMAGE"),
        (lambda t: t + "real/class_0/new.jpg ²", r":13: expected a path and a class number"),
        (lambda t: "\n", "expected a line an image, got an empty file"),
    ],
)
def test_domainnet_by_line(lists: Path, change: Callable[[str], str], message: str) -> None:
    rewritten(lists / "domainnet/real_train.txt", change)
    with pytest.raises(ValueError, match=message):
        open_source("domainnet/real", "test")


def test_lists_in_another_encoding(lists: Path) -> None:
    file = lists / "domainnet/real_train.txt"
    file.write_bytes(file.read_bytes() + b"real/caf\xe9/x.jpg 3\n")
    with pytest.raises(ValueError, match=r":13: expected text in UTF-8, got the byte 0xe9"):
        open_source("domainnet/real", "train")


def saved(root: Path, split: str = "train", **arrays: Any) -> None:
    np.savez(root / f"{split}.npz", **arrays)


IMAGES = np.zeros((3, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.int64(3), r"expected integer labels \[N\], .* got int64 \[\]"),
        (np.array([0.0, 1.0, 2.0]), r"expected integer labels \[N\].* got float64 \[3\]"),
        (np.array([[0], [1], [2]]), r"got int64 \[3, 1\]; save labels\[:, 0\] if these are class"),
        (np.array([0, -1, 1]), "expected labels in 0 to 1, got -1 to 1"),
        (np.array([[0, np.nan]] * 3), "of 0 and 1"),
        (np.array([0, 1]), "expected labels .* got"),
        (np.array(["a", "b", "c"]), r"got <U1 \[3\]"),
    ],
)
def test_labels_of_arrays(tmp_path: Path, labels: Any, message: str) -> None:
    saved(tmp_path, images=IMAGES, labels=labels)
    with pytest.raises(ValueError, match=message):
        open_source("numpy", "train", str(tmp_path))


def test_files_of_arrays(tmp_path: Path) -> None:
    saved(tmp_path, images=IMAGES[:0], labels=np.zeros(0, int))
    with pytest.raises(ValueError, match="expected at least one image"):
        open_source("numpy", "train", str(tmp_path))
    saved(tmp_path, images=IMAGES, labels=np.eye(3, dtype=int))
    saved(tmp_path, "test", images=IMAGES, labels=np.zeros(3, int))
    with pytest.raises(ValueError, match=r"expected labels \[N\] in all files, .* test.npz \[3\]"):
        open_source("numpy", "train", str(tmp_path))
    content = (tmp_path / "test.npz").read_bytes()
    for part in (0, 10, len(content) // 2, len(content) - 5):
        (tmp_path / "test.npz").write_bytes(content[:part])
        with pytest.raises(ValueError, match=r"test.npz: expected arrays images \(uint8\) and lab"):
            open_source("numpy", "test", str(tmp_path))
    with (tmp_path / "test.npz").open("wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(ValueError, match=r"got one array; save both with numpy.savez"):
        open_source("numpy", "test", str(tmp_path))


@pytest.mark.parametrize("max_bytes", [0, 2**30])
def test_examples_are_joined_by_number(tmp_path: Path, max_bytes: int) -> None:
    """Images of 0, 20 … 160, the third broken; the model is wrong on 20, 60, 100 and 140."""
    for split in ("training", "validation"):
        for i in range(9):
            put(tmp_path / split / "cat" / f"{i}.png", 20 * i)
        put(tmp_path / split / "dog" / "0.png", 250)
    (tmp_path / "validation/cat/2.png").write_bytes(b"no image")
    spec = dataclasses.replace(SPEC, folder=str(tmp_path), max_bad=0.2)
    data = load(spec, "test", max_bytes=max_bytes)

    def apply_fn(params: Any, inputs: Any) -> Any:
        value = jnp.rint(255 * inputs[:, 0, 0, 0]).astype(jnp.int32)
        is_dog = jnp.isin(value, jnp.array([20, 60, 100, 140, 250]))
        return jnp.where(is_dog[:, None], jnp.array([0.0, 1.0]), jnp.array([[1.0, 0.0]]))

    stream = eval_stream(spec, "test", data=data)
    found = predictions.collect([(apply_fn, {}), (apply_fn, {})], stream)
    rows, _ = mistakes.examples(found, 0, 1, which="common")
    numbers = np.asarray(found.numbers)[np.asarray(rows)]
    source, chosen = open_split(spec, "test")
    shown = [int(source[int(chosen[number])]["image"][0, 0, 0]) for number in numbers]
    assert sorted(shown) == [20, 60, 100, 140]
    assert np.asarray(found.numbers).tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 9]


def test_unreadable_images_in_memory_are_masked(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        put(tmp_path / split / "cat" / "0.png", 9)
        put(tmp_path / split / "cat" / "1.png", 9)
    (tmp_path / "training/cat/0.png").write_bytes(b"")
    data = load_arrays(dataclasses.replace(SPEC, folder=str(tmp_path), max_bad=0.5), "train")
    assert data.mask is not None
    assert data.mask.tolist() == [False, True]
    assert data.images[:, 0, 0, 0].tolist() == [0, 9]
