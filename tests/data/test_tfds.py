"""tensorflow-datasets without TensorFlow: its mock data, and a dataset prepared for real."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tlx.data.examples import load, load_arrays
from tlx.data.loader import eval_stream, train_batches
from tlx.data.sources import open_source
from tlx.data.sources.chexpert import DISEASES
from tlx.data.sources.domainnet import DOMAINS
from tlx.data.spec import DataSpec

tfds = pytest.importorskip("tensorflow_datasets")
Image = pytest.importorskip("PIL.Image")

SPEC = DataSpec(
    name="tfds/tlx_squares",
    image_size=8,
    channels=1,
    mean=(0.5,),
    std=(0.5,),
    batch_size=4,
    eval_batch_size=4,
)
COUNTS = {"train": 7, "test": 4}


def square(index):
    """An image whose values say which example it is, of a size of its own."""
    return np.full((8 + index, 8, 3), 10 * index, np.uint8)


class TlxSquares(tfds.core.GeneratorBasedBuilder):
    """Prepares without TensorFlow, because it yields encoded images."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "photo": tfds.features.Image(shape=(None, None, 3)),
                "kind": tfds.features.ClassLabel(num_classes=3),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self, features=features, supervised_keys=("photo", "kind")
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(count) for split, count in COUNTS.items()}

    def _generate_examples(self, count):
        for index in range(count):
            file = io.BytesIO()
            Image.fromarray(square(index)).save(file, "PNG")
            file.seek(0)
            yield index, {"photo": file, "kind": index % 3}


class TlxTexts(tfds.core.GeneratorBasedBuilder):
    """A dataset without images."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"text": "words"}


with tfds.core.registered.skip_registration():

    class Chexpert(tfds.core.GeneratorBasedBuilder):
        """The library's data set of that name with four images, and no TensorFlow."""

        VERSION = tfds.core.Version("3.1.0")

        def _info(self):
            marks = ["uncertain", "positive", "negative", "unmentioned"]
            features = {
                "name": tfds.features.Text(),
                "image": tfds.features.Image(),
                "label": tfds.features.Sequence(tfds.features.ClassLabel(names=marks)),
                "image_view": tfds.features.ClassLabel(names=["frontal", "lateral"]),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for index in range(4):
                file = io.BytesIO()
                Image.fromarray(square(index)).save(file, "PNG")
                file.seek(0)
                label = [(index + observation) % 4 for observation in range(14)]
                yield index, {"name": "x", "image": file, "label": label, "image_view": 0}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for builder in (TlxSquares, TlxTexts, Chexpert):
        builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture(autouse=True)
def no_tensorflow():
    yield
    assert "tensorflow" not in sys.modules


@pytest.fixture
def folder(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    return prepared


def test_mock_data(monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    with tfds.testing.mock_data(num_examples=5):
        source = open_source("tfds/cifar10", "train")
        assert (source.name, source.num_classes, len(source)) == ("tfds/cifar10", 10, 5)
        example = source[3]
        assert (example["image"].shape, example["image"].dtype) == ((32, 32, 3), np.uint8)
        assert 0 <= example["label"] < 10
        assert open_source("tfds/cifar10", "train").fingerprint == source.fingerprint
        assert open_source("tfds/cifar10", "test").fingerprint != source.fingerprint
        spec = dataclasses.replace(SPEC, name="tfds/cifar10", image_size=16, shuffle="block:8")
        assert spec.problems() == spec.unavailable() == []
        batch = next(train_batches(load(spec, "train"), spec, seed=0))
        assert batch["inputs"].shape == (4, 16, 16, 1)
        assert sum(b["mask"].sum() for b in eval_stream(spec, "test")()) == 5


@pytest.mark.filterwarnings("ignore")  # of the library, on its own mock data
@pytest.mark.parametrize(
    ("name", "num_classes"),
    [
        ("imagenet2012", 1000),
        *((f"domainnet/{domain}", 345) for domain in DOMAINS),
        ("cifar10", 10),
        ("cifar100", 100),
        ("oxford_flowers102", 102),
        ("imagenette", 10),
        ("fashion_mnist", 10),
    ],
)
def test_named_datasets(monkeypatch, name, num_classes):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    with tfds.testing.mock_data(num_examples=2):
        source = open_source(f"tfds/{name}", "train")
        assert (source.num_classes, len(source)) == (num_classes, 2)
        assert source.class_names is None or len(source.class_names) == num_classes
        example = source[1]
        assert example["image"].dtype == np.uint8
        assert 0 <= example["label"] < num_classes


def test_chexpert_has_five_labels(folder):
    source = open_source("tfds/chexpert", "train")
    assert (len(source), source.num_classes, source.class_names) == (4, 5, DISEASES)
    marks = ("uncertain", "positive", "negative", "unmentioned")
    places = {"Cardiomegaly": 2, "Edema": 5, "Consolidation": 6, "Atelectasis": 8}
    places["Pleural Effusion"] = 10
    found = {int(source[i]["image"][0, 0, 0]): source[i] for i in range(4)}  # in any order
    for index in range(4):
        example = found[10 * index]
        assert example["image"].shape == (8 + index, 8, 1)
        for disease, label in zip(DISEASES, example["label"], strict=True):
            mark = marks[(index + places[disease]) % 4]
            unsure = float(disease in ("Edema", "Atelectasis"))
            assert label == {"positive": 1.0, "uncertain": unsure}.get(mark, 0.0)


def test_prepared_dataset(folder):
    assert SPEC.problems() == SPEC.unavailable() == []
    for split, count in COUNTS.items():
        source = open_source(SPEC.name, split)
        assert (len(source), source.num_classes) == (count, 3)
        seen = []
        for i in range(count):  # the library shuffles once, when it prepares
            example = source[i]
            index = int(example["image"][0, 0, 0]) // 10
            np.testing.assert_array_equal(example["image"], square(index))
            assert example["label"] == index % 3
            seen.append(index)
        assert sorted(seen) == list(range(count))
    assert len(open_source(SPEC.name, "train[:3]")) == 3
    assert len(open_source(SPEC.name + ":1.0.0", "train")) == 7


def test_decoding_by_item_equals_decoding_at_once(folder):
    lazy = load(SPEC, "train", max_bytes=0)
    arrays = load_arrays(SPEC, "train")
    for seed in (0, 1):
        ours = train_batches(lazy, SPEC, seed=seed, start_step=1)
        theirs = train_batches(arrays, SPEC, seed=seed, start_step=1)
        for _, batch, other in zip(range(3), ours, theirs, strict=False):
            for name in other:
                np.testing.assert_allclose(batch[name], other[name], atol=1e-6)


def test_a_process_that_does_not_know_the_builder_reads_what_it_prepared(folder):
    code = (
        "import json, sys\n"
        "from tlx.data.sources import open_source\n"
        "source = open_source('tfds/tlx_squares', 'test')\n"
        "source[0]\n"
        "print(json.dumps([len(source), source.fingerprint, 'tensorflow' in sys.modules]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "TFDS_DATA_DIR": str(folder)},
    )
    assert run.returncode == 0, run.stderr
    count, fingerprint, imported = json.loads(run.stdout)
    assert (count, imported) == (4, False)
    assert fingerprint == open_source(SPEC.name, "test").fingerprint


def test_a_byte_of_a_shard_is_content(folder, tmp_path, monkeypatch):
    before = {split: open_source(SPEC.name, split).fingerprint for split in ("train", "train[:3]")}
    assert len(set(before.values())) == 2
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "copy"))
    for split, fingerprint in before.items():
        assert open_source(SPEC.name, split).fingerprint == fingerprint
    (shard,) = (tmp_path / "copy/tlx_squares/1.0.0").glob("*train*")
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    for split, fingerprint in before.items():
        assert open_source(SPEC.name, split).fingerprint != fingerprint


def test_not_prepared_says_the_command(folder):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - compared whole
        open_source("tfds/mnist", "train")
    assert str(error.value) == (
        f"the dataset 'mnist' is not prepared in {folder} in a format with random access. "
        "Prepare it once, on a machine that may download it and has TensorFlow:\n"
        "  pip install tensorflow tensorflow-datasets\n"
        f"  tfds build mnist --file_format=array_record --data_dir={folder}\n"
        "then set TFDS_DATA_DIR to that folder wherever it is read; reading needs no TensorFlow."
    )
    spec = dataclasses.replace(SPEC, name="tfds/mnist")
    assert spec.unavailable() == [f"name: {error.value}"]


def test_unknown_dataset_split_and_features(folder):
    with pytest.raises(ValueError, match=r"knows no dataset 'mnits', .* did you mean tfds/mnist"):
        open_source("tfds/mnits:3.0.1", "train")
    with pytest.raises(ValueError, match=r"^tfds/tlx_squares, split 'dev': .*'train', 'test'"):
        open_source("tfds/tlx_squares", "dev")
    with pytest.raises(ValueError, match=r"^tfds/tlx_squares:2\.0\.0, .* only: 1\.0\.0"):
        open_source("tfds/tlx_squares:2.0.0", "train")
    with pytest.raises(
        ValueError, match=r"expected one image and one class label .* text \(Text\)"
    ):
        open_source("tfds/tlx_texts", "train")
