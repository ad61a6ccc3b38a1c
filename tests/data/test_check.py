"""A look at data sets: counts, sizes, what is broken, a picture."""

import numpy as np
import pytest

from tests.helpers import mock_data
from tlx import cli
from tlx.data.check import check
from tlx.data.sources import open_source

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def folder(tmp_path):
    return mock_data.make_image_folder(tmp_path / "photos", splits=("train",), per_class=10)


def test_what_is_seen(folder):
    found = check("folder", "train", str(folder))
    source = open_source("folder", "train", str(folder))
    sizes = [source[i]["image"].shape for i in range(30)]
    assert (found.num_examples, found.decoded, found.bad) == (30, 30, {})
    np.testing.assert_array_equal(found.per_class, [10, 10, 10])
    areas = [h * w for h, w, _ in sizes]
    for size, area in zip(found.sizes, (min(areas), max(areas)), strict=True):
        assert size[0] * size[1] == area
    assert len(found.images) == len(found.titles) == 24
    np.testing.assert_array_equal(found.images[0], source[0]["image"])
    assert found.titles[0] == "n00000000"
    assert found.images_per_second > 0


def test_several_labels_an_image(tmp_path):
    mock_data.make_chexpert(tmp_path)
    found = check("chexpert", "train", str(tmp_path))
    source = open_source("chexpert", "train", str(tmp_path))
    labels = np.stack([source[i]["label"] for i in range(24)])
    np.testing.assert_array_equal(found.per_class, labels.sum(0))
    names = [", ".join(np.array(found.names)[row > 0]) or "none" for row in labels]
    assert list(found.titles) == names


def test_command(folder, tmp_path, capsys):
    picture = tmp_path / "grid.png"
    argv = ["data", "check", "folder", f"--folder={folder}", f"--out={picture}"]
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert "30 examples, 3 classes" in out
    assert "n00000000 10, n00000001 10, n00000002 10" in out
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 500
    file = folder / "train/n00000001/train_1_2.JPEG"
    file.write_bytes(b"no image")
    assert cli.main(argv) == 1
    captured = capsys.readouterr()
    assert f"{file}: expected a readable image" in captured.out
    assert "1 of folder's images cannot be read" in captured.err


def test_list(capsys, monkeypatch):
    monkeypatch.delenv("TLX_DATA_DIR", raising=False)
    assert cli.main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "digits" in lines
    assert "tfds/NAME" in lines
    assert any(line.startswith("chexpert: ") and "TLX_DATA_DIR" in line for line in lines)
