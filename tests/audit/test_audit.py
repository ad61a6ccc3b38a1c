"""Two checkpoints with a planted difference: the audit names it, by weights alone and with data."""

import json
import re
import shutil

import numpy as np
import pytest

from tests.audit import planted
from tests.audit.planted import PLANTS
from tlx import cli
from tlx.audit import behaviour, data, models, page, run

MODEL = "tests.audit.planted:load"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The parent, a, every b, and images."""
    folder = tmp_path_factory.mktemp("audit")
    parent = planted.train(planted.fresh(0), 0, 200)
    a = planted.train(parent, 11, 60, rate=0.03)
    planted.save(folder / "parent.npz", parent)
    planted.save(folder / "a.npz", a)
    for name, (make, _, _) in PLANTS.items():
        made = make(a, parent, np.random.default_rng(3))
        planted.save(folder / f"{name.replace(' ', '_')}.npz", made)
    inputs, labels = planted.data(2, 300)
    np.savez(folder / "data.npz", inputs=inputs, labels=labels)
    return folder


def paths_of(folder, name, parent=True):
    found = {"a": folder / "a.npz", "b": folder / f"{name.replace(' ', '_')}.npz"}
    if parent:
        found["parent"] = folder / "parent.npz"
    return {part: str(path) for part, path in found.items()}


@pytest.fixture(scope="module", params=PLANTS)
def audited(request, folder):
    name = request.param
    found = run.run(
        paths_of(folder, name), model=MODEL, data_path=str(folder / "data.npz"), batch_size=100
    )
    return name, found


def test_the_page_names_the_plant(audited):
    name, found = audited
    _, kind, words = PLANTS[name]
    said = [finding.text for finding in found.findings if finding.name == kind]
    assert any(words in text for text in said), found.text()
    assert any(words in text for text in re.findall(r"<li>(.*?)</li>", page.render(found)))


def test_no_other_plant_is_named(audited):
    name, found = audited
    _, kind, _ = PLANTS[name]
    others = {kind for _, kind, _ in PLANTS.values()} - {kind, "fine_tuned"}
    assert not others & {finding.name for finding in found.findings}


def test_the_weights_alone_name_it_too(audited, folder):
    name, _ = audited
    _, kind, words = PLANTS[name]
    found = run.run(paths_of(folder, name))
    said = [finding.text for finding in found.findings if finding.name == kind]
    assert any(words in text for text in said), found.text()


def test_too_few_examples_for_batch_statistics_leave_the_basin_open(folder, tmp_path):
    """Of one class alone the statistics are others, and so is what the models answer with them."""
    inputs, labels = planted.data(2, 300)
    one = labels == 1
    np.savez(tmp_path / "one.npz", inputs=inputs[one][:40], labels=labels[one][:40])
    found = run.run(
        paths_of(folder, "other data order", parent=False),
        model=MODEL,
        data_path=str(tmp_path / "one.npz"),
    )
    names = {finding.name: finding.text for finding in found.findings}
    assert "move the accuracy of a model itself by" in names["basin_open"]
    assert "averaged is open" in names["soup"]
    assert found.behaviour.line.drift.low > behaviour.TOLERANCE
    assert found.behaviour.line.verdict == "open"


SAME_FUNCTION = {"units permuted", "one layer scaled with its norm", "same weights"}


def test_what_the_data_say(audited):
    name, found = audited
    done = found.behaviour
    names = {finding.name for finding in found.findings}
    assert ("same_function" in names) == (name in SAME_FUNCTION)
    assert ("basin_no" in names) == (name == "unrelated weights")
    assert (done.aligned is not None) <= (name in {"units permuted", "unrelated weights",
                                                   "one block replaced"})  # fmt: skip
    assert done.same_after_alignment == (name == "units permuted")
    assert done.accuracy["a"].value > 0.9
    assert done.num_examples == 300
    for part in ("a", "b"):
        assert done.dropped[part].shape == (len(done.modules),)
    if name == "head only trained":  # of which the head alone differs from the parent
        lost = dict(zip(done.modules, done.dropped["b"], strict=True))
        assert all(lost[module] == 0 for module in done.modules if module != "head")
    assert done.modules == ("stem", "block_1", "block_2", "block_3", "head")


def test_without_a_parent(folder):
    found = run.run(
        paths_of(folder, "other data order", parent=False),
        model=MODEL,
        data_path=str(folder / "data.npz"),
        batch_size=100,
    )
    assert [finding.name for finding in found.findings][:2] == ["related", "accuracy"]
    assert found.behaviour.reference == "the other"
    assert list(found.pairs) == ["a and b"]


def test_each_section_has_its_figure(audited):
    _, found = audited
    drawn = page.figures(found)
    differ = any((pair.relative > 0).any() for pair in found.pairs.values())
    assert list(drawn) == ["modules"] * differ + ["line", "carried", "features"]
    assert all(figure.axes for figure in drawn.values())


def test_the_folder_has_the_page_and_its_tables(folder, tmp_path, capsys, monkeypatch):
    paths = paths_of(folder, "a frozen stage")
    out = tmp_path / "made"
    arguments = ["audit", paths["a"], paths["b"], "--parent", paths["parent"], "--model", MODEL]
    assert cli.main([*arguments, "--data", str(folder / "data.npz"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "block_1 was left as before" in printed
    assert str(out / "audit.html") in printed
    names = {path.name for path in out.iterdir()}
    assert names == {"audit.html", "audit.json"} | {
        f"{name}.{kind}" for name in ("modules", "matrices", "features") for kind in ("csv", "tex")
    }
    text = (out / "audit.html").read_text()
    assert len(text) < 1_000_000
    assert "http://" not in text.replace("http://www.w3.org", "")
    found = json.loads((out / "audit.json").read_text())
    assert found["names"] == {"a": "a", "b": "a_frozen_stage", "parent": "parent"}
    assert found["behaviour"]["line"]["verdict"] == "yes"
    rows = (out / "modules.csv").read_text().splitlines()
    assert rows[2].startswith("block_1,")
    assert r"block\_1 & " in (out / "modules.tex").read_text()


def test_a_workdir_and_a_registry_model(tmp_path):
    from tests.studies.tiny import tiny_run
    from tlx.studies import runner

    for seed in (1, 2):
        runner.run_one(tiny_run("RI-T", seed=seed), tmp_path / f"run{seed}")
    paths = {"a": str(tmp_path / "run1"), "b": str(tmp_path / "run2")}
    found = run.run(paths)
    assert found.findings[0].name == "unrelated"
    assert found.names == {"a": "run1", "b": "run2"}
    loaded = models.load(paths)
    assert loaded["a"].apply_fn == loaded["b"].apply_fn
    assert loaded["a"].head == "head"


def refused(capsys, *words):
    assert cli.main(["audit", *map(str, words)]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("tlx audit: ")
    assert "\n" not in said
    return said


def test_bad_input_is_one_sentence(folder, tmp_path, capsys):
    a, b = folder / "a.npz", folder / "noise_of_1_%.npz"
    assert "expected different checkpoints, got" in refused(capsys, a, a)
    assert "which is not there" in refused(capsys, a, tmp_path / "none.npz")
    assert "cannot import none.nets" in refused(capsys, a, b, "--model=none.nets:load")
    said = refused(capsys, a, b, "--model=tests.audit.planted:none")
    assert "expected a function none in tests.audit.planted, got none" in said
    said = refused(capsys, a, b, "--model=os.path:basename")
    assert "expected it to return (apply_fn, params)" in said
    assert "TypeError: " in refused(capsys, a, b, "--model=tests.audit.planted:fresh")
    assert "unknown model 'resnet81'" in refused(capsys, a, b, "--model=resnet81")
    said = refused(capsys, a, b, "--data", folder / "data.npz")
    assert "expected a model for data" in said
    other = tmp_path / "other.npz"
    with np.load(a) as file:
        leaves = {n: x if "block_2" not in n else x[..., :3] for n, x in file.items()}
    np.savez(other, **leaves)
    said = refused(capsys, a, b, "--parent", other)
    assert "expected a and other to be of one architecture (up to the head), got" in said
    assert "params/block_2/conv1/kernel [3, 3, 16, 16] against [3, 3, 16, 3]" in said
    (tmp_path / "text.npz").write_text("no")
    assert "text.npz" in refused(capsys, a, tmp_path / "text.npz")


def test_a_model_of_several_outputs_is_one_sentence(folder, capsys):
    paths = paths_of(folder, "noise of 1 %")
    words = (paths["a"], paths["b"], "--data", folder / "data.npz")
    said = refused(capsys, *words, "--model=tests.audit.planted:load_pairs")
    assert "expected the outputs of a as one array [B, ...], got tuple with 0 [50, 4], 1" in said


def test_weights_that_are_not_finite_are_said_to_be_so(folder, tmp_path):
    with np.load(folder / "a.npz") as file:
        leaves = {n: np.full_like(x, np.nan) if x.ndim > 1 else x for n, x in file.items()}
    np.savez(tmp_path / "bad.npz", **leaves)
    found = run.run({"a": str(folder / "a.npz"), "b": str(tmp_path / "bad.npz")})
    assert [finding.name for finding in found.findings] == ["undefined"]
    page.write(found, tmp_path / "out")


DATA = {
    "labels": ({"inputs": np.zeros((4, 8, 8, 1), np.float32)}, "to hold 'labels' and either"),
    "rows": (
        {"inputs": np.zeros((4, 8, 8, 1), np.float32), "labels": np.zeros(3, int)},
        "one an example (4)",
    ),
    "classes": (
        {"inputs": np.zeros((4, 8, 8, 1), np.float32), "labels": np.array([0, 1, 2, 9])},
        "expected labels in 0 … 3, as the head of a has 4 outputs, got 9",
    ),
    "shape": (
        {"inputs": np.zeros((4, 8, 8, 3), np.float32), "labels": np.zeros(4, int)},
        "a does not take inputs [4, 8, 8, 3]",
    ),
    "none": ({"inputs": np.zeros((0, 8, 8, 1)), "labels": np.zeros(0, int)}, "holds no examples"),
    "dtype": ({"images": np.zeros((4, 8, 8, 3)), "labels": np.zeros(4, int)}, "images as uint8"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_do_not_fit_are_one_sentence(name, folder, tmp_path, capsys):
    arrays, message = DATA[name]
    np.savez(tmp_path / "data.npz", **arrays)
    paths = paths_of(folder, "noise of 1 %")
    said = refused(
        capsys, paths["a"], paths["b"], f"--model={MODEL}", "--data", tmp_path / "data.npz"
    )
    assert message in said


def test_names_are_the_shortest_ends_that_differ():
    paths = {"a": "runs/one/model.pth", "b": "runs/two/model.pth", "parent": "base/model.pth"}
    assert models.short_names(paths) == {
        "a": "one/model", "b": "two/model", "parent": "base/model"
    }  # fmt: skip
    assert models.short_names({"a": "x.npz", "b": "y.npz"}) == {"a": "x", "b": "y"}


def test_a_folder_of_images(tmp_path):
    from PIL import Image

    for label in ("cat", "dog"):
        (tmp_path / "photos" / "test" / label).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (9, 7), (40 * i, 0, 0)).save(
                tmp_path / "photos" / "test" / label / f"{i}.png"
            )
    for path in ("photos", "photos/test"):
        stream, count, classes, note = data.read(str(tmp_path / path), image_size=4, batch_size=4)
        assert (count, classes, note) == (6, ("cat", "dog"), "")
        batches = list(stream())
        assert batches[0]["inputs"].shape == (4, 4, 4, 3)
        labels = np.concatenate([np.asarray(b["labels"])[np.asarray(b["mask"])] for b in batches])
        assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.read(str(tmp_path / "photos"), image_size=4, most=2, batch_size=4)[1] == 2
    note = data.read(str(tmp_path / "photos"), image_size=8, batch_size=4).note
    assert note.startswith("Images of 7 pixels were enlarged to 8: give --size=7")
    with pytest.raises(ValueError, match=r"--split: expected a folder in .*photos, got nope"):
        data.read(str(tmp_path / "photos"), split="nope")
    # a folder with all classes beside it gives the numbers
    shutil.copytree(tmp_path / "photos" / "test", tmp_path / "photos" / "train")
    shutil.rmtree(tmp_path / "photos" / "test" / "cat")
    found = data.read(str(tmp_path / "photos" / "test"), image_size=4, batch_size=4)
    assert np.asarray(next(iter(found.stream()))["labels"])[0] == 1
    assert found.classes == ("cat", "dog")


def test_folders_are_as_many_as_outputs(folder):
    loaded = models.load(paths_of(folder, "noise of 1 %", parent=False), model=MODEL)
    stream = data.read(str(folder / "data.npz")).stream
    behaviour.check(loaded, stream, ("a", "b", "c", "d"))
    with pytest.raises(ValueError, match=r"each of the 4 outputs of a, .*, got 3 \(a, b, d\)"):
        behaviour.check(loaded, stream, ("a", "b", "d"))


def test_few_matrices_are_not_said_to_have_noise(tmp_path):
    """Of a small net the change by training is as spread as noise is."""
    rng = np.random.default_rng(0)
    base = {"first": rng.standard_normal((20, 64)), "last": rng.standard_normal((64, 5))}
    for name, scale in (("a", 0.2), ("b", 0.1)):
        moved = {n: x + scale * rng.standard_normal(x.shape) for n, x in base.items()}
        np.savez(tmp_path / f"{name}.npz", **moved)
    np.savez(tmp_path / "base.npz", **base)
    found = run.run({k: str(tmp_path / f"{n}.npz") for k, n in
                     (("a", "a"), ("b", "b"), ("parent", "base"))})  # fmt: skip
    assert "trained on" in found.text()
    assert "noise" not in found.text()


def test_quantised_weights_are_not_said_to_be_the_same(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in "ab":
        codes = rng.integers(-100, 100, (6, 4)).astype(np.int8)
        np.savez(tmp_path / f"{name}.npz", **{"l1/kernel": codes})
    assert cli.main(["audit", *(str(tmp_path / f"{name}.npz") for name in "ab")]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("tlx audit: expected weights as floating numbers, got int8 in l1/kernel")
