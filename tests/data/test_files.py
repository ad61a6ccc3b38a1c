"""Sources that read files: folders by class, numpy, DomainNet's lists, CheXpert."""

import csv
import dataclasses
import shutil

import numpy as np
import pytest

from tests.helpers import mock_data
from tlx.data.examples import Lazy, load, load_arrays
from tlx.data.labelled import BadImage
from tlx.data.loader import eval_stream, train_batches
from tlx.data.sources import open_source, unavailable
from tlx.data.sources.chexpert import DISEASES
from tlx.data.spec import DataSpec

Image = pytest.importorskip("PIL.Image")

SPEC = DataSpec(
    name="folder",
    test_split="val",
    image_size=16,
    channels=3,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    fit=("resize_short:20", "center_crop:16"),
    augment=("resized_crop", "flip"),
    batch_size=4,
    eval_batch_size=5,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return mock_data.make_all(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def place(root, monkeypatch):
    monkeypatch.setenv("TLX_DATA_DIR", str(root))


def test_folder_by_class(root):
    source = open_source("folder", "train")
    assert (len(source), source.num_classes) == (12, 3)
    assert source.class_names == ("n00000000", "n00000001", "n00000002")
    assert [source[i]["label"] for i in (0, 4, 11)] == [0, 1, 2]
    file = root / "folder/train/n00000001/train_1_0.JPEG"
    np.testing.assert_array_equal(source[4]["image"], np.asarray(Image.open(file).convert("RGB")))
    named = open_source("folder", "train", str(root / "folder"))
    assert named.fingerprint == source.fingerprint != open_source("folder", "val").fingerprint
    assert SPEC.problems() == SPEC.unavailable() == []


def test_domainnet_by_its_lists(root):
    for domain in ("real", "clipart"):
        train, test = (open_source(f"domainnet/{domain}", s) for s in ("train", "test"))
        assert (len(train), len(test), train.num_classes) == (12, 12, 3)
        assert train.class_names == ("class_0", "class_1", "class_2")
        listed = (root / f"domainnet/{domain}_test.txt").read_text().splitlines()
        for i, line in enumerate(listed):
            path, label = line.split()
            assert test[i]["label"] == int(label)
            pixels = np.asarray(Image.open(root / "domainnet" / path).convert("RGB"))
            np.testing.assert_array_equal(test[i]["image"], pixels)


def marks(root):
    policy = {"1.0": 1.0, "0.0": 0.0, "": 0.0}
    with (root / "chexpert/train.csv").open() as file:
        lines = list(csv.DictReader(file))
    unsure = {"Edema": 1.0, "Atelectasis": 1.0}
    labels = [[policy.get(line[d], unsure.get(d, 0.0)) for d in DISEASES] for line in lines]
    return [line["Path"].partition("/")[2] for line in lines], np.array(labels)


def test_chexpert_by_the_authors_rules(root):
    paths, labels = marks(root)
    order = np.random.RandomState(1234).permutation(24)
    first, rest = open_source("chexpert", "train[:14]"), open_source("chexpert", "train[14:24]")
    for source, numbers in ((first, order[:14]), (rest, order[14:])):
        assert (len(source), source.num_classes) == (len(numbers), 5)
        for i, number in enumerate(numbers):
            np.testing.assert_array_equal(source[i]["label"], labels[number])
            pixels = np.asarray(Image.open(root / "chexpert" / paths[number]))
            np.testing.assert_array_equal(source[i]["image"], pixels[:, :, None])
    expected = []
    for number in order[:14]:
        is_rare = labels[number][0] == 1 or labels[number][2] == 1
        expected += [number, number] if is_rare else [number]
    doubled = open_source("chexpert", "train[:14]+doubled")
    assert 14 < len(expected) == len(doubled)
    for i, number in enumerate(expected):
        np.testing.assert_array_equal(doubled[i]["label"], labels[number])
    assert len(open_source("chexpert", "valid")) == 4


def test_arrays(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        images = rng.integers(0, 256, (count, 5, 5)).astype(np.uint8)
        np.savez(tmp_path / f"{split}.npz", images=images, labels=np.arange(count) % 4)
    source = open_source("numpy", "test", str(tmp_path))
    assert (len(source), source.num_classes, source[0]["image"].shape) == (3, 4, (5, 5, 1))


def test_evaluation_fits_and_training_crops_anew(root):
    data = load(SPEC, "train")
    assert isinstance(data, Lazy)
    fitted = load_arrays(SPEC, "train")
    seen = list(eval_stream(SPEC, "train", data=data)())
    assert [int(b["mask"].sum()) for b in seen] == [5, 5, 2]
    evaluated = np.concatenate([b["inputs"] for b in seen])[:12]
    mean, std = np.array(SPEC.mean), np.array(SPEC.std)
    np.testing.assert_allclose(evaluated, (fitted.images / 255 - mean) / std, atol=1e-5)
    steps = [next(train_batches(data, SPEC, seed=0, start_step=s)) for s in (0, 3, 3)]
    np.testing.assert_array_equal(steps[1]["inputs"], steps[2]["inputs"])
    shared = set(steps[0]["index"].tolist()) & set(steps[1]["index"].tolist())
    assert steps[0]["inputs"].shape == (4, 16, 16, 3)
    for index in shared:  # the same image, cut anew
        a, b = (s["inputs"][list(s["index"]).index(index)] for s in steps[:2])
        assert np.abs(np.asarray(a) - np.asarray(b)).max() > 0.01


def test_what_is_drawn_depends_on_the_place_and_not_on_the_processes():
    data = load(SPEC, "train")
    one = next(train_batches(data, SPEC, seed=1, start_step=2))
    two = [
        next(train_batches(data, SPEC, seed=1, start_step=2, process_index=p, process_count=2))
        for p in range(2)
    ]
    for p in range(2):
        np.testing.assert_array_equal(one["inputs"][p::2], two[p]["inputs"])


def test_chexpert_end_to_end():
    spec = dataclasses.replace(
        SPEC,
        name="chexpert",
        train_split="train[:14]+doubled",
        test_split="train[14:24]",
        fit=("equalize", "float", "resize_long:16", "pad:16", "blur"),
        augment=("affine",),
        mean=(128 / 255,) * 3,
        std=(64 / 255,) * 3,
    )
    assert spec.problems() == []
    batch = next(train_batches(load(spec, "train"), spec, seed=0))
    assert batch["inputs"].shape == (4, 16, 16, 3)
    assert batch["labels"].shape == (4, 5)
    (first, *_) = eval_stream(spec, "test")()
    corner = np.asarray(first["inputs"])[:, -1, -1]  # padded with 128, which is 0
    assert (np.abs(corner).min(-1) < 1e-6).any()
    levels = 64 * np.asarray(first["inputs"]) + 128
    assert np.abs(levels - np.rint(levels)).max() > 0.2  # not rounded on the way
    grey = load_arrays(dataclasses.replace(spec, channels=1, mean=(0.5,), std=(0.25,)), "test")
    np.testing.assert_allclose(255 * grey.images[0], levels[0, :, :, :1], atol=1e-3)


def test_subsets_by_the_authors_rule():
    spec = dataclasses.replace(
        SPEC, name="domainnet/real", test_split="test", train_size=5, test_size=7, subset_seed=2020
    )
    chosen = np.random.RandomState(2020).choice(12, 7, replace=False)
    every = load_arrays(dataclasses.replace(spec, test_size=None), "test")
    np.testing.assert_array_equal(load_arrays(spec, "test").images, every.images[chosen])
    assert len(load_arrays(spec, "train").images) == 5
    with pytest.raises(
        ValueError, match="test_size of at most 12, the examples of split 'test', got 13"
    ):
        load(dataclasses.replace(spec, test_size=13), "test")


@pytest.fixture
def broken(root, tmp_path):
    shutil.copytree(root / "folder", tmp_path / "broken")
    (tmp_path / "broken/train/n00000001/train_1_2.JPEG").write_bytes(b"no image")
    (tmp_path / "broken/train/n00000000/train_0_1.JPEG").unlink()
    file = tmp_path / "broken/train/n00000002/train_2_3.JPEG"
    file.write_bytes(file.read_bytes()[:300])
    return str(tmp_path / "broken")


def test_bad_images_are_left_out_up_to_a_share(broken, caplog):
    source = open_source("folder", "train", broken)
    assert len(source) == 11  # the file that is gone is not listed
    with pytest.raises(
        BadImage, match=r"train_1_2.JPEG: expected a readable image, got a broken one"
    ):
        source[5]
    spec = dataclasses.replace(SPEC, folder=broken, max_bad=0.2, augment=())
    good = load_arrays(spec, "train")
    assert len(good.images) == len(good.labels) == 11
    assert np.flatnonzero(~good.mask).tolist() == [5, 10]
    assert len(caplog.records) == 2
    lazy = load(spec, "train", max_bytes=0)
    seen = list(eval_stream(spec, "train", data=lazy)())
    assert sum(int(b["mask"].sum()) for b in seen) == 9
    inputs = np.concatenate([b["inputs"][b["mask"]] for b in seen])
    mean, std = np.array(SPEC.mean), np.array(SPEC.std)
    np.testing.assert_allclose(inputs, (good.images[good.mask] / 255 - mean) / std, atol=1e-5)
    for a, b in zip(seen, eval_stream(spec, "train", data=good)(), strict=True):
        for name in ("labels", "mask", "index"):  # in memory as lazily
            np.testing.assert_array_equal(a[name], b[name])
    for a, b in zip(take(lazy, spec), take(good, spec), strict=True):
        for name, value in a.items():
            np.testing.assert_allclose(value, b[name], atol=1e-6, err_msg=name)
    batches = train_batches(lazy, spec, seed=0)
    steps = [next(batches) for _ in range(6)]
    used = np.concatenate([step["index"][step["mask"]] for step in steps])
    assert set(used.tolist()) == set(range(11)) - {5, 10}
    assert sorted(lazy.bad.found) == [5, 10]


def take(data, spec):
    batches = train_batches(data, spec, seed=0)
    return [next(batches) for _ in range(4)]


def test_more_bad_images_than_the_share(broken):
    spec = dataclasses.replace(SPEC, folder=broken, max_bad=0.1, augment=())
    expected = (
        r"folder.*expected at most 1 unreadable images by max_bad, got 2 of 11; mend or remove them"
    )
    with pytest.raises(ValueError, match=expected):
        load_arrays(spec, "train")
    with pytest.raises(ValueError, match=expected):
        list(eval_stream(spec, "train", data=load(spec, "train", max_bytes=0))())


def damage(file, old, new):
    file.write_text(file.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "split", "spoil", "message"),
    [
        ("folder", "test", None, r"expected a folder 'test' .* got train, val"),
        ("folder", "val", lambda r: shutil.rmtree(r / "folder/train/n00000001"), "n00000001;"),
        ("domainnet/real", "train", lambda r: (r / "domainnet/real_test.txt").unlink(), "_test"),
        (
            "domainnet/real",
            "train",
            lambda r: damage(r / "domainnet/real_train.txt", ".jpg 0", ".jpg x"),
            "real_train.txt:1: expected a path and a class number",
        ),
        (
            "chexpert",
            "valid",
            lambda r: damage(r / "chexpert/valid.csv", "Edema", "Odema"),
            "valid.csv: expected the columns Edema, got none",
        ),
        (
            "chexpert",
            "train",
            lambda r: damage(r / "chexpert/train.csv", "-1.0", "2.0"),
            r"train.csv:\d+: expected 1, 0, -1 or nothing for .*, got '2.0'",
        ),
        ("chexpert", "train[:25]", None, "got 24 in"),
        ("chexpert", "test", None, "unknown split|expected a split as"),
    ],
)  # fmt: skip
def test_files_that_are_not_as_they_should_be(
    root, tmp_path, monkeypatch, name, split, spoil, message
):
    shutil.copytree(root, tmp_path / "copy")
    monkeypatch.setenv("TLX_DATA_DIR", str(tmp_path / "copy"))
    if spoil:
        spoil(tmp_path / "copy")
    with pytest.raises(ValueError, match=message):
        open_source(name, split)


def test_no_folder(tmp_path, monkeypatch):
    missing = unavailable("folder", "train", str(tmp_path / "none"))
    assert missing is not None
    assert missing.startswith("expected a folder for the source 'folder', got no ")
    monkeypatch.delenv("TLX_DATA_DIR")
    assert "set TLX_DATA_DIR" in (unavailable("chexpert", "train") or "")


def test_arrays_that_are_not_as_they_should_be(tmp_path):
    np.savez(tmp_path / "train.npz", images=np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"train.npz: .* got images without labels"):
        open_source("numpy", "train", str(tmp_path))
    with pytest.raises(ValueError, match=r"expected a file test.npz .* got train.npz"):
        open_source("numpy", "test", str(tmp_path))
    np.savez(tmp_path / "train.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.array([0, -1]))
    with pytest.raises(ValueError, match="expected labels in 0 to 0, got -1 to 0"):
        open_source("numpy", "train", str(tmp_path))
    several = np.array([[0, 1], [2, 0]])
    np.savez(tmp_path / "train.npz", images=np.zeros((2, 4, 4), np.uint8), labels=several)
    with pytest.raises(ValueError, match=r"expected labels \[N, 2\] of 0 and 1, got \[2, 2\]"):
        open_source("numpy", "train", str(tmp_path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fit": ("resize_short:20",)}, "fit: expected operations that leave image_size 16, got"),
        ({"fit": ("resized_crop:16",)}, "fit: expected operations without chance, got"),
        ({"fit": ("crop:16",)}, "fit: unknown operation on decoded images 'crop'"),
        ({"max_bad": 1.5}, "max_bad: expected a share of 0 to 1, got 1.5"),
        ({"subset_seed": -1}, "subset_seed: expected 0 to"),
        ({"test_size": 0}, "test_size: expected 1 or more, got 0"),
    ],
)  # fmt: skip
def test_each_problem_is_named(values, message):
    (found,) = dataclasses.replace(SPEC, **values).problems()
    assert found.startswith(message)
