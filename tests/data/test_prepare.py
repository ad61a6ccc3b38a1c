"""Fashion-MNIST's files prepared without TensorFlow, and read back."""

import sys

import pytest

from tests.helpers import make_fashion
from tlx import cli
from tlx.data.sources import open_source

pytest.importorskip("tensorflow_datasets")


@pytest.fixture
def files(tmp_path, monkeypatch):
    folder = tmp_path / "files"
    folder.mkdir()
    make_fashion.write(folder, 9, 5)
    monkeypatch.setenv("TLX_FASHION_MNIST", str(folder))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    return folder


def test_prepared_and_read_back(files, capsys):
    assert cli.main(["data", "prepare", "fashion_mnist"]) == 0
    assert "fashion_mnist" in capsys.readouterr().out
    for split in ("train", "test"):
        ours, theirs = (open_source(f"{kind}fashion_mnist", split) for kind in ("", "tfds/"))
        assert len(ours) == len(theirs)
        assert theirs.class_names[9] == "Ankle boot"
        by_bytes = {theirs[i]["image"].tobytes(): theirs[i]["label"] for i in range(len(theirs))}
        for i in range(len(ours)):  # the library has an order of its own
            assert by_bytes[ours[i]["image"].tobytes()] == ours[i]["label"]
    assert "tensorflow" not in sys.modules
    assert cli.main(["data", "prepare", "tfds/fashion_mnist"]) == 0  # it is there


def test_files_that_are_not_there(files, capsys):
    (files / "t10k-labels-idx1-ubyte.gz").unlink()
    assert cli.main(["data", "prepare", "fashion_mnist"]) == 1
    assert "needs t10k-labels-idx1-ubyte.gz" in capsys.readouterr().err
    assert not list(files.parent.glob("prepared/*"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10", "tfds build cifar10 --file_format=array_record --data_dir="),
        ("imagenet2012", "First put ILSVRC2012_img_train.tar"),
        ("chexpert", "it can be read as it is by the source 'chexpert'"),
    ],
)
def test_others_need_tensorflow(capsys, name, message):
    assert cli.main(["data", "prepare", name]) == 1
    assert message in capsys.readouterr().err
