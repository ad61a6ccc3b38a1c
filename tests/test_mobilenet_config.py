"""configs/mobilenet.py: built at full size, and a small one of it from weights of a torch file."""

import numpy as np
import pytest

from tests.helpers import make_fashion
from tlx import checkpoints, config, models, records
from tlx.checkpoints.foreign import write_safetensors
from tlx.core import tree
from tlx.models import torch_names
from tlx.studies import plan, runner, trained
from tlx.studies.questions import Distances, LinearProbes
from tlx.studies.runs import Pair
from tlx.studies.spec import StudySpec
from tlx.train import importing
from tlx.train.spec import ModelSpec

OPTIONS = {"stages": ((1, 8, 1, 1), (2, 8, 1, 2)), "width": 0.25}
MODEL = ModelSpec(name="mobilenet_v2", options=OPTIONS)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Random weights of 7 classes, as a torch library would have saved them."""
    folder = tmp_path_factory.mktemp("weights")
    module = models.make("mobilenet_v2", num_classes=7, **OPTIONS)
    rng = np.random.default_rng(0)
    leaves = torch_names.shapes(module)
    values = {name: rng.uniform(0.1, 0.3, x.shape).astype(np.float32) for name, x in leaves.items()}
    file = folder / "net.safetensors"
    write_safetensors(file, torch_names.to_torch(module, tree.nested(values)), {})
    importing.import_weights(file, folder / "imagenet", model=MODEL, name="ImageNet")
    return folder / "imagenet", values


@pytest.mark.parametrize("target", ["", ":fashion_mnist"])
def test_it_builds_at_full_size(target, tmp_path, monkeypatch):
    make_fashion.write(tmp_path, 500, 1000)
    monkeypatch.setenv("TLX_FASHION_MNIST", str(tmp_path))
    spec = config.build(StudySpec, config.load(f"configs/mobilenet.py{target}"))
    assert spec.pretrain.data == spec.finetune.data == spec.scratch.data
    assert spec.pretrain.num_steps == 0


def test_a_small_one_from_imported_weights(imported, tmp_path):
    workdir, values = imported
    found = config.load("configs/mobilenet.py:digits").copy_and_resolve_references()
    with found.unlocked():
        found.pretrain.init_from.workdir = str(workdir)
        found.questions, found.replicates = ("mistakes",), 1
        for name in ("pretrain", "finetune", "scratch"):
            run = found[name]
            run.model.options = OPTIONS
            run.data.update({"train_size": 40, "test_size": 40, "image_size": 16, "batch_size": 8})
            run.num_steps = min(run.num_steps, 2)
            run.eval_every = 2
    spec = config.build(StudySpec, found)
    study = runner.run(spec, tmp_path / "study")
    for run in ("p", "p-t_1"):
        first = checkpoints.restore(tmp_path / "study" / "runs" / run, 0, as_numpy=True)
        for name, leaf in tree.named_leaves(first).items():
            if name.startswith("params/head/"):
                assert not leaf.any()
            else:
                np.testing.assert_array_equal(leaf, values[name], err_msg=name)
    chain = checkpoints.chain(checkpoints.origin(tmp_path / "study" / "runs" / "p-t_1", 2))
    assert [link["run"] for link in chain] == ["P-T 1", "P", "ImageNet"]
    names = {record.question for record in records.query(study.records)}
    assert {"learning_curve", "mean_learning_curves", "mistakes"} <= names
    assert study.page.exists()
    # its step 0 is no random weights
    planned = plan.make(spec, tmp_path / "study")
    p, p_t, ri_t = planned.runs
    probes = LinearProbes()
    kinds = [probes.key(probed).inputs["kind"] for probed in probes.subjects(planned)]
    assert kinds == ["P", "P-T", "RI-T", "RI"]
    check_distances(Pair(p_t, ri_t))
    check_distances(Pair(p_t, p))


def check_distances(pair):
    """They are of weights, and running statistics do not enter."""
    a, b = (tree.named_leaves(trained.params(run)) for run in pair)
    body = [n for n in a if n.startswith("params/") and "/head/" not in n]
    assert len(body) < len(a) - 2  # there are statistics
    expected = np.sqrt(sum(np.sum((np.float64(a[n]) - np.float64(b[n])) ** 2) for n in body))
    found = Distances().answer(pair)
    np.testing.assert_allclose(found.total_l2, expected, rtol=1e-5)
    assert found.num_scale_invariant > 0
    assert np.isfinite(found.total_l2_normalised)
