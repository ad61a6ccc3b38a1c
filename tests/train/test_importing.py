"""From a file of another library to a run, and back."""

import json

import jax
import numpy as np
import pytest

from tests.train import tiny
from tlx import checkpoints, cli, models
from tlx.checkpoints.foreign import read_tensors, write_safetensors
from tlx.core import tree
from tlx.core.sharding import make_mesh
from tlx.models import torch_names
from tlx.train import importing
from tlx.train.loop import train
from tlx.train.spec import InitFrom, ModelSpec

OPTIONS = {"width": 4, "stage_sizes": (1,), "stem": "small"}
MODEL = "resnet,width=4,stage_sizes=(1,),stem=small"


def torch_tensors(num_classes=9, channels=1):
    module = models.make("resnet", num_classes=num_classes, **OPTIONS)
    rng = np.random.default_rng(0)
    leaves = torch_names.shapes(module, channels)
    values = {name: rng.random(like.shape).astype(np.float32) for name, like in leaves.items()}
    return torch_names.to_torch(module, tree.nested(values)), values


@pytest.fixture
def file(tmp_path):
    tensors, _ = torch_tensors()
    write_safetensors(tmp_path / "net.safetensors", tensors, {})
    return tmp_path / "net.safetensors"


def run_of(workdir, head, **more):
    start = InitFrom(workdir=str(workdir), step="last", head=head)
    model = ModelSpec(name="resnet", options=OPTIONS)
    spec = tiny.make_spec(num_steps=2, eval_every=2, init_from=start, **more)
    return type(spec)(**{**vars(spec), "model": model})


def test_imported_weights_begin_a_run_of_other_classes(file, tmp_path, capsys):
    work = tmp_path / "imported"
    assert cli.main(["import", str(file), f"--model={MODEL}", f"--workdir={work}"]) == 0
    told = capsys.readouterr().out
    assert "9 classes, as resnet" in told
    assert "left out: bn1.num_batches_tracked and 2 more (a counter)" in told
    kept = tree.named_leaves(checkpoints.restore(work, "last", as_numpy=True))
    for name, value in torch_tensors()[1].items():
        np.testing.assert_array_equal(kept[name], value, err_msg=name)
    train(run_of(work, "zeros"), tmp_path / "run", mesh=make_mesh(jax.devices()[:1]))
    first = tree.named_leaves(checkpoints.restore(tmp_path / "run", 0, as_numpy=True))
    assert first["params/head/kernel"].shape == (4, tiny.CLASSES)
    for name, value in torch_tensors()[1].items():
        if "/head/" not in name:
            np.testing.assert_array_equal(first[name], value, err_msg=name)
    parents = checkpoints.chain(checkpoints.origin(tmp_path / "run", "last"))
    assert [link["run"] for link in parents][1] == "P"

    out = tmp_path / "out.safetensors"
    assert cli.main(["export", f"--workdir={work}", f"--out={out}"]) == 0
    exported = read_tensors(out)
    for name, value in torch_tensors()[0].items():
        np.testing.assert_array_equal(exported[name], value, err_msg=name)
    trained = tmp_path / "trained.safetensors"
    importing.export_weights(tmp_path / "run", trained)
    again = importing.import_weights(
        trained, tmp_path / "again", model=importing.parse_model(MODEL), name="T"
    )
    assert again["num_classes"] == tiny.CLASSES
    last = checkpoints.restore(tmp_path / "run", "last", as_numpy=True)
    jax.tree.map(
        np.testing.assert_array_equal, last, checkpoints.restore(tmp_path / "again", as_numpy=True)
    )


def test_our_own_names(tmp_path):
    _, values = torch_tensors(channels=3)
    np.savez(tmp_path / "ours.npz", **values)
    model = importing.parse_model(MODEL)
    found = importing.import_weights(tmp_path / "ours.npz", tmp_path / "w", model=model)
    assert found["tensors"] == len(values)
    assert json.loads((tmp_path / "w" / importing.FILE).read_text())["file"] == "ours.npz"


def imported(tmp_path, change):
    tensors, values = torch_tensors()
    write_safetensors(tmp_path / "other", change(tensors), {})
    model = importing.parse_model(MODEL)
    return importing.import_weights(tmp_path / "other", tmp_path / "w", model=model), values


@pytest.mark.parametrize("prefix", ["module._orig_mod.model.", "encoder."])
def test_weights_without_a_head_and_with_prefixes(tmp_path, prefix):
    def change(tensors):
        kept = {prefix + name: x for name, x in tensors.items() if not name.startswith("fc.")}
        return kept | {"n_averaged": np.array(3)}

    found, values = imported(tmp_path, change)
    assert found["num_classes"] == 0
    assert found["skipped"]["fc.weight"] == "not in the file; runs start with a fresh head"
    assert found["skipped"]["n_averaged"] == "a counter"
    kept = tree.named_leaves(checkpoints.restore(tmp_path / "w", "last", as_numpy=True))
    assert set(kept) == {name for name in values if "/head/" not in name}
    for name, value in kept.items():
        np.testing.assert_array_equal(value, values[name], err_msg=name)
    train(run_of(tmp_path / "w", "random"), tmp_path / "run", mesh=make_mesh(jax.devices()[:1]))
    first = tree.named_leaves(checkpoints.restore(tmp_path / "run", 0, as_numpy=True))
    assert first["params/head/kernel"].shape == (4, tiny.CLASSES)
    np.testing.assert_array_equal(first[torch_names.STEM], values[torch_names.STEM])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.bool_, np.complex64])
def test_weights_that_are_not_floats(tmp_path, dtype):
    tensors, values = torch_tensors()
    for name, content in (("conv1.weight", tensors), ("params/stem/conv/kernel", values)):
        spoiled = content | {name: np.round(content[name]).astype(dtype)}
        np.savez(tmp_path / "net.npz", **spoiled)
        with pytest.raises(
            ValueError, match=f"type: {name}: expected floats, got {np.dtype(dtype)}"
        ):
            importing.import_weights(
                tmp_path / "net.npz", tmp_path / "w", model=importing.parse_model(MODEL)
            )
        assert not (tmp_path / "w").exists()


def test_our_own_names_without_a_head(tmp_path):
    _, values = torch_tensors(channels=3)
    kept = {name: value for name, value in values.items() if "/head/" not in name}
    np.savez(tmp_path / "ours.npz", **kept)
    model = importing.parse_model(MODEL)
    found = importing.import_weights(tmp_path / "ours.npz", tmp_path / "w", model=model)
    assert (found["tensors"], found["num_classes"]) == (len(kept), 0)
    assert importing.export_weights(tmp_path / "w", tmp_path / "out") == len(kept) + 3


def without(tensors):
    del tensors["bn1.weight"]


def infinite(tensors):
    tensors["bn1.weight"][0] = np.inf


def no_head(tensors):
    del tensors["fc.weight"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without, r"1 tensors do not fit ResNet.*\n  missing: bn1.weight \(params/stem/norm/"),
        (infinite, "got NaN or infinity in params/stem/norm/scale"),
        (no_head, "expected a classifier fc.weight or params/head/kernel among"),
    ],
)  # fmt: skip
def test_nothing_is_written_of_weights_that_do_not_fit(tmp_path, spoil, message):
    tensors, _ = torch_tensors()
    spoil(tensors)
    np.savez(tmp_path / "net.npz", **tensors)
    model = importing.parse_model(MODEL)
    with pytest.raises(ValueError, match=message):
        importing.import_weights(tmp_path / "net.npz", tmp_path / "w", model=model)
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]


def test_a_workdir_that_is_there(file, tmp_path, capsys):
    (tmp_path / "w").mkdir()
    assert cli.main(["import", str(file), f"--model={MODEL}", f"--workdir={tmp_path / 'w'}"]) == 1
    assert "expected a new workdir, got" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet49", "unknown model 'resnet49'"),
        ("resnet,wide=3", "unknown option of model 'resnet' 'wide'"),
        ("resnet,width", "expected NAME,OPTION=VALUE, got 'width'"),
    ],
)
def test_models_that_are_none(text, message):
    with pytest.raises(ValueError, match=message):
        importing.parse_model(text)
