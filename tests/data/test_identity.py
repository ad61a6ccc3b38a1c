"""Whose data it is: content decides, wherever it lies, and knowing it again is cheap."""

import dataclasses
import gzip
import hashlib
import json
import os
import shutil
import time

import numpy as np
import pytest

from tests.helpers import mock_data
from tlx.data import examples, identity
from tlx.data.loader import eval_stream
from tlx.data.sources import open_source
from tlx.data.spec import DataSpec

Image = pytest.importorskip("PIL.Image")

SPEC = DataSpec(
    name="folder",
    image_size=4,
    channels=1,
    mean=(0.5,),
    std=(0.5,),
    batch_size=4,
    eval_batch_size=4,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, and a process that remembers nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(identity, "_REMEMBERED", {})
    return tmp_path / "cache/tlx/files"


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once, as they do after two seconds."""
    monkeypatch.setattr(identity, "RACY_NS", 0)


@pytest.fixture
def reads(monkeypatch):
    """The files that were read, in the order of their names."""
    found = []
    real = hashlib.file_digest

    def digest(file, name):
        found.append(os.path.basename(file.name))
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", digest)
    return found


def restart(monkeypatch):
    monkeypatch.setattr(identity, "_REMEMBERED", {})


def write(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(file)


def make(folder, values, splits=("train", "test")):
    for split in splits:
        for i, value in enumerate(values):
            write(folder / split / ("cat", "dog")[i % 2] / f"{i}.png", value)
    return folder


def spec_of(folder, **changes):
    return dataclasses.replace(SPEC, folder=str(folder), **changes)


def pixels(folder):
    return examples.load_arrays(spec_of(folder), "train").images[:, 0, 0, 0].tolist()


def texts(folder, *values):
    folder.mkdir(exist_ok=True)
    names = [f"{i}.txt" for i in range(len(values))]
    for name, value in zip(names, values, strict=True):
        (folder / name).write_text(value)
    return names


def test_equal_names_are_not_equal_data(tmp_path):
    one, other = make(tmp_path / "a", (10, 11)), make(tmp_path / "b", (200, 201))
    assert pixels(one) == [10, 11]
    assert pixels(other) == [200, 201]
    assert pixels(one) == [10, 11]
    for split in ("train", "valid", "test"):
        specs = [spec_of(folder, valid_size=1) for folder in (one, other)]
        first, second = (examples.data_key(spec, split)["fingerprint"] for spec in specs)
        assert first != second
        assert (
            examples.content(specs[0])[split]["digest"]
            != examples.content(specs[1])[split]["digest"]
        )


def test_a_place_is_not_content(tmp_path):
    one = make(tmp_path / "a", (10, 11))
    shutil.copytree(one, tmp_path / "b")
    before = examples.content(spec_of(one))
    assert examples.content(spec_of(tmp_path / "b")) == before
    one.rename(tmp_path / "c")
    assert examples.content(spec_of(tmp_path / "c")) == before
    assert before["train"]["count"] == 2


@pytest.mark.parametrize("is_lazy", [False, True])
def test_a_file_that_changes_under_its_name_gives_new_pixels(is_lazy, tmp_path, settled):
    folder = make(tmp_path / "a", (10, 12))

    def seen():
        data = examples.load(spec_of(folder), "train", max_bytes=0) if is_lazy else None
        (batch,) = eval_stream(spec_of(folder), "train", data=data)()
        values = (np.asarray(batch["inputs"])[:2, 0, 0, 0] * 0.5 + 0.5) * 255
        return np.rint(values).astype(int).tolist()

    assert seen() == [10, 12]
    key = examples.data_key(spec_of(folder), "train")
    time.sleep(0.02)  # clocks of file systems tick every few milliseconds
    write(folder / "train/dog/1.png", 77)
    assert seen() == [10, 77]
    assert examples.data_key(spec_of(folder), "train") != key


def test_what_was_read_is_known_in_a_fresh_process(tmp_path, settled, monkeypatch, reads):
    names = texts(tmp_path / "a", "x", "yy", "x")
    found = identity.of_files(tmp_path / "a", names)
    assert found == [hashlib.sha256(text).hexdigest() for text in (b"x", b"yy", b"x")]
    assert sorted(reads) == names
    for _ in range(2):
        restart(monkeypatch)
        assert identity.of_files(tmp_path / "a", names) == found
    (tmp_path / "a/3.txt").write_text("z")  # of what is added, that alone is read
    assert identity.of_files(tmp_path / "a", [*names, "3.txt"])[:3] == found
    assert sorted(reads) == [*names, "3.txt"]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_equal_sizes_and_times_do_not_deceive(tmp_path, settled, monkeypatch, is_restarted):
    folder = tmp_path / "a"
    names = texts(folder, "abc", "def")
    before = identity.of_files(folder, names)
    times = (folder / names[0]).stat()
    time.sleep(0.02)
    (folder / names[0]).write_text("xyz")
    os.utime(folder / names[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (folder / names[0]).stat().st_mtime_ns == times.st_mtime_ns
    if is_restarted:
        restart(monkeypatch)
    after = identity.of_files(folder, names)
    assert after == [hashlib.sha256(b"xyz").hexdigest(), before[1]]


def test_another_file_put_in_its_place_is_seen(tmp_path, settled):
    folder = tmp_path / "a"
    names = texts(folder, "abc", "xyz")
    before = identity.of_files(folder, names)
    times = (folder / names[0]).stat()
    os.utime(folder / names[1], ns=(times.st_atime_ns, times.st_mtime_ns))
    (folder / names[1]).replace(folder / names[0])
    assert identity.of_files(folder, names) == [before[1], identity.ABSENT]


def test_a_file_that_is_just_written_is_read_each_time(tmp_path, cache, reads, monkeypatch):
    names = texts(tmp_path / "a", "x")
    identity.of_files(tmp_path / "a", names)
    identity.of_files(tmp_path / "a", names)
    assert reads == names * 2
    assert not list(cache.glob("*"))
    old = time.time_ns() - 10**10  # an old mtime alone does not make it settled
    os.utime(tmp_path / "a" / names[0], ns=(old, old))
    identity.of_files(tmp_path / "a", names)
    assert reads == names * 3
    monkeypatch.setattr(time, "time_ns", lambda: (tmp_path / "a/0.txt").stat().st_ctime_ns + 10**10)
    identity.of_files(tmp_path / "a", names)
    identity.of_files(tmp_path / "a", names)
    assert reads == names * 4


def test_what_is_remembered_is_the_users_alone(tmp_path, cache, settled):
    cache.mkdir(parents=True, mode=0o755)
    identity.of_files(tmp_path, texts(tmp_path, "x"))
    assert cache.stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_mode & 0o777 for file in cache.iterdir()] == [0o600]


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-9],
    "other digest": lambda data: data.replace(b'"0.txt":', b'"9.txt":'),
    "no text": lambda data: b"\xff\x00" * 40,
    "two swapped": lambda data: data.replace(
        hashlib.sha256(b"x").hexdigest().encode(), hashlib.sha256(b"y").hexdigest().encode()
    ),
    "other JSON": lambda data: b"3",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_of_what_is_remembered_costs_only_time(
    damage, tmp_path, cache, settled, monkeypatch, reads
):
    names = texts(tmp_path / "a", "x", "y")
    found = identity.of_files(tmp_path / "a", names)
    (file,) = cache.iterdir()
    assert DAMAGES[damage](file.read_bytes()) != file.read_bytes()
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    restart(monkeypatch)
    assert identity.of_files(tmp_path / "a", names) == found
    assert len(reads) == 4
    restart(monkeypatch)
    assert identity.of_files(tmp_path / "a", names) == found
    assert len(reads) == 4  # remembered again


@pytest.mark.parametrize("where", ["a file", "a file within", "no home"])
def test_no_place_to_remember_costs_only_time(where, tmp_path, settled, monkeypatch, reads):
    names = texts(tmp_path / "a", "x", "y")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    if where == "a file within":
        (tmp_path / "cache/tlx").mkdir(parents=True)
        (tmp_path / "cache/tlx/files").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if where == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path / "file/below"))
    found = identity.of_files(tmp_path / "a", names)
    restart(monkeypatch)
    assert identity.of_files(tmp_path / "a", names) == found
    assert len(reads) == 4


def test_two_processes_add_to_what_is_remembered(tmp_path, settled, monkeypatch, reads):
    names = texts(tmp_path, "x", "y")
    restart(monkeypatch)
    identity.of_files(tmp_path, [])  # this one has looked before the other wrote
    mine = identity._REMEMBERED
    restart(monkeypatch)
    identity.of_files(tmp_path, names[:1])
    monkeypatch.setattr(identity, "_REMEMBERED", mine)
    identity.of_files(tmp_path, names[1:])
    restart(monkeypatch)
    identity.of_files(tmp_path, names)
    assert sorted(reads) == names


def test_a_process_holds_the_digests_of_few_folders(tmp_path, settled, reads):
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        identity.of_files(folder, texts(folder, "x"))
    assert len(identity._REMEMBERED) == identity._KEPT
    identity.of_files(tmp_path / "0", ["x"])  # from the cache folder
    assert len(reads) == 20


def test_what_cannot_be_read_is_absent(tmp_path, settled):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    names = ["pipe", "folder", "gone", "folder/below", *texts(tmp_path, "x")]
    assert identity.of_files(tmp_path, names)[:4] == [identity.ABSENT] * 4
    assert identity.of_files(tmp_path, names)[4] == hashlib.sha256(b"x").hexdigest()


def test_a_name_that_is_no_text(tmp_path, settled, monkeypatch):
    name = os.fsdecode(b"\xff.png")
    (tmp_path / name).write_text("x")
    first = identity.of_examples(tmp_path, [name], np.zeros(1))
    restart(monkeypatch)
    assert identity.of_examples(tmp_path, [name], np.zeros(1)) == first


def test_names_labels_order_and_form_count(tmp_path):
    names = texts(tmp_path, "x", "y")
    labels = np.array([0, 1])
    digests = [
        identity.of_examples(tmp_path, names, labels, mode="L"),
        identity.of_examples(tmp_path, names, labels, mode="RGB"),
        identity.of_examples(tmp_path, names, labels[::-1], mode="L"),
        identity.of_examples(tmp_path, names[::-1], labels, mode="L"),
        identity.of_examples(tmp_path, names[:1], labels[:1], mode="L"),
        identity.of_examples(tmp_path, names[:1] * 2, labels, mode="L"),
        identity.of_examples(tmp_path, names, labels[:, None], mode="L"),
    ]
    assert len(set(digests)) == len(digests)
    (tmp_path / "0.txt").rename(tmp_path / "2.txt")
    assert identity.of_examples(tmp_path, ["2.txt", "1.txt"], labels, mode="L") not in digests


def test_a_long_first_reading_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(identity, "SHOWN_SECONDS", 0.0)
    monkeypatch.setattr(identity, "_PART", 2)
    identity.of_files(tmp_path, texts(tmp_path, "x", "y", "z"))
    assert caplog.messages == [
        f"reading {tmp_path} to know its content: 2 of 3",
        f"reading {tmp_path} to know its content: 3 of 3",
    ]


@pytest.mark.parametrize(
    ("name", "split", "image"),
    [
        ("folder", "train", "folder/train/n00000001/train_1_0.JPEG"),
        ("domainnet/real", "test", "domainnet/real/class_1/real_001_000003.jpg"),
        ("chexpert", "train[:20]", "chexpert/train/patient00003/study1/view1_frontal.jpg"),
        ("chexpert", "train+doubled", "chexpert/train/patient00003/study1/view1_frontal.jpg"),
        ("chexpert", "valid", "chexpert/valid/patient00001/study1/view1_frontal.jpg"),
    ],
)
def test_every_source_of_files_sees_a_byte(name, split, image, tmp_path, monkeypatch):
    monkeypatch.setenv("TLX_DATA_DIR", str(mock_data.make_all(tmp_path / "data")))
    before = open_source(name, split).fingerprint
    assert open_source(name, split).fingerprint == before
    file = tmp_path / "data" / image
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    assert open_source(name, split).fingerprint != before
    file.unlink()
    assert open_source(name, split).fingerprint != before


def test_lists_are_content(tmp_path, monkeypatch):
    root = mock_data.make_all(tmp_path / "data")
    monkeypatch.setenv("TLX_DATA_DIR", str(root))
    for name, file, change in (
        ("chexpert", "chexpert/train.csv", lambda text: text.replace(",1.0", ",0.0", 1)),
        ("domainnet/real", "domainnet/real_train.txt", lambda text: text.split("\n", 1)[1]),
    ):
        before = open_source(name, "train").fingerprint
        (root / file).write_text(change((root / file).read_text()))
        assert open_source(name, "train").fingerprint != before


def test_fashion_mnist_that_changes_in_its_folder(tmp_path, monkeypatch):
    def fill(value):
        for part in ("train", "t10k"):
            for kind, shape in (("images-idx3", (2, 28, 28)), ("labels-idx1", (2,))):
                values = np.full(shape, value if len(shape) > 1 else 1, np.uint8)
                head = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
                data = gzip.compress(head + values.tobytes())
                (tmp_path / f"{part}-{kind}-ubyte.gz").write_bytes(data)

    monkeypatch.setenv("TLX_FASHION_MNIST", str(tmp_path))
    for value in (3, 9):
        fill(value)
        for split in ("train", "test"):
            assert open_source("fashion_mnist", split).images[0, 0, 0, 0] == value


def test_classes_of_other_splits_are_content(tmp_path):
    images = np.zeros((2, 4, 4, 1), np.uint8)
    for split, labels in (("train", [0, 1]), ("test", [1, 1])):
        np.savez(tmp_path / f"{split}.npz", images=images, labels=labels)
    spec = spec_of(tmp_path, name="numpy")
    before = examples.content(spec)
    np.savez(tmp_path / "test.npz", images=images, labels=[1, 2])
    after = examples.content(spec)
    assert before["train"]["digest"] != after["train"]["digest"]  # the model has another head
    assert json.loads(json.dumps(after)) == after


def test_no_more_folders_are_remembered_than_said(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(identity, "MOST_FOLDERS", 3)
    monkeypatch.setattr(identity, "RACY_NS", 0)
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "a").write_bytes(b"a")
        os.utime(folder / "a", (1, 1))
        identity.of_files(folder, ["a"])
    assert len(list(cache.glob("*.1"))) == 3
