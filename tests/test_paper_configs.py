"""The paper's configs: built and traced at full size, and a few steps of each on mock data."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import mock_data
from tlx import config, models, records
from tlx.config.typed import tuples
from tlx.core.sharding import make_mesh
from tlx.data.examples import load, num_examples, open_split
from tlx.studies import plan, questions, runner, trained
from tlx.studies.spec import StudySpec
from tlx.train import metrics_log
from tlx.train.loop import train
from tlx.train.spec import ModelSpec, RunSpec
from tlx.train.workdir import read_result

pytest.importorskip("PIL")

NAMES = (
    "imagenet",
    "domainnet",
    "domainnet:real,shuffle",
    "domainnet:real,checkpoints",
    "domainnet:clipart,analyses,from=runs/imported",
    "chexpert",
    "chexpert:from=runs/imported",
)
TINY = ModelSpec(
    name="fixup_resnet",
    options={
        "width": 4,
        "stage_sizes": (1, 1),
        "block": "bottleneck",
        "head_init": "uniform",
    },
)
SIZE = 32


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return mock_data.make_all(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def place(root, monkeypatch):
    monkeypatch.setenv("TLX_DATA_DIR", str(root))


@functools.cache
def given(name):
    file, _, arg = name.partition(":")
    return config.load(f"configs/paper/{file}.py" + (f":{arg}" if arg else ""))


def build(name):
    """The spec of a config; with splits and subsets that the mock data have, where it looks."""
    found = given(name).copy_and_resolve_references()
    with found.unlocked():
        for part in ("finetune", "scratch"):
            if part in found and found[part].data.name == "chexpert":
                found[part].data.train_split = "train[:14]+doubled"
                found[part].data.test_split = "train[14:24]"
            if part in found and "shuffle" in name:
                found[part].data.train_size = found[part].data.test_size = 9
    return config.build(StudySpec if "pretrain" in found else RunSpec, found)


def parts(spec):
    return (spec.pretrain, spec.finetune, spec.scratch) if isinstance(spec, StudySpec) else (spec,)


@pytest.mark.parametrize("name", NAMES)
def test_it_builds_and_every_run_is_planned(name):
    spec = build(name)
    if isinstance(spec, StudySpec):
        planned = plan.make(spec, Path("somewhere")).runs
        expected = {"": 8, "analyses": 8, "shuffle": 52, "checkpoints": 26}
        asked = name.partition(",")[2].partition(",")[0]
        wanted = 1 + (4 if name.startswith("chexpert") else expected[asked])
        assert len(planned) == wanted
        assert len({run.workdir for run in planned}) == wanted
        for run in planned:
            assert run.spec.problems() == []


@pytest.mark.parametrize("name", ["imagenet", "domainnet", "chexpert"])
def test_it_traces_at_full_size(name):
    classes = {"imagenet": 1000, "domainnet": 345, "chexpert": 5}[name]
    run = parts(build(name))[-1]
    module = models.make(
        run.model.name, num_classes=classes, dtype=run.model.dtype, **tuples(run.model.options)
    )
    inputs = jax.ShapeDtypeStruct((run.data.batch_size, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
    number = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert number == 24_161_931 + (classes - 345) * 2049  # the paper's, a row of the head a class
    assert jax.eval_shape(module.apply, variables, inputs).shape == (run.data.batch_size, classes)


def small(run, **more):
    """The run with a small net on small images, for two steps."""
    data = dataclasses.replace(
        run.data,
        image_size=SIZE,
        fit=tuple(t.replace("256", "36").replace("224", str(SIZE)) for t in run.data.fit),
        batch_size=4,
        eval_batch_size=8,
        train_size=run.data.train_size and 9,
        test_size=run.data.test_size and 8,
        shuffle=run.data.shuffle.replace("block:112", "block:16"),
    )
    optim = dataclasses.replace(
        run.optim, boundaries=(1,) if run.optim.schedule == "step" else (), rate=1e-3
    )
    keep = dataclasses.replace(run.checkpoint, steps=(), resume_every=0)
    steps = min(2, run.num_steps)
    return dataclasses.replace(
        run, model=TINY, data=data, optim=optim, checkpoint=keep, num_steps=steps, **more
    )


@pytest.fixture(scope="module")
def pretrained(root, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLX_DATA_DIR", str(root))
        folder = tmp_path_factory.mktemp("runs") / "imagenet"
        train(small(build("imagenet")), folder, mesh=make_mesh(jax.devices()[:1]))
    return folder


@pytest.mark.parametrize("name", ["domainnet:clipart,analyses", "chexpert"])
def test_a_small_study_from_images_to_the_page(name, pretrained, tmp_path):
    comma = "," if ":" in name else ":"
    spec = build(f"{name}{comma}from={pretrained}")
    spec = dataclasses.replace(
        spec,
        **{part: small(getattr(spec, part)) for part in ("pretrain", "finetune", "scratch")},
        questions=("interpolation", "mistakes"),
        interpolation=questions.Interpolation(num_alphas=3),
    )
    study = runner.run(spec, tmp_path)
    runs = plan.make(spec, tmp_path).runs
    assert {run.kind: read_result(run.workdir).step for run in runs} == {
        "P": 0,
        "P-T": 2,
        "RI-T": 2,
    }
    record, *_ = records.query(study.records, "interpolation")
    curve, *_ = records.query(study.records, "learning_curve", kind="P-T")
    assert np.isfinite(record.loss).all()
    assert record.num_examples == curve.num_test > 0
    is_multilabel = name == "chexpert"
    for auc in (record.auc, curve.test_auc):
        assert np.isfinite(auc).any() == is_multilabel
    assert ("Area under the ROC curve" in study.page.read_text()) == is_multilabel
    shown = trained.images(runs[-1], range(2))
    assert shown.dtype == np.uint8
    assert shown.max() > 100
    if is_multilabel:  # the line ends at the two runs
        run = next(run for run in runs if run.name == record.inputs["a"])
        np.testing.assert_allclose(record.auc[0], read_result(run.workdir).test["auc"], rtol=1e-5)


def test_weights_that_are_there_need_no_pretraining(pretrained, tmp_path):
    name = f"domainnet:real,analyses,from={pretrained}"
    run = small(build(name).pretrain)
    result = train(run, tmp_path / "p", mesh=make_mesh(jax.devices()[:1]))
    there = metrics_log.read(pretrained)
    assert result.step == 0
    last = [line for line in there if line["step"] == 2 and line["split"] == "test"]
    np.testing.assert_allclose(result.test["loss"], last[0]["loss"], rtol=1e-6)


def test_studies_train_imagenet_by_its_own_config():
    for name in ("domainnet", "chexpert"):
        assert build(name).pretrain == build("imagenet")


def test_the_authors_subset():
    run = build("domainnet").finetune
    assert (run.data.train_size, run.data.test_size, run.data.subset_seed) == (50_000, 50_000, 2020)
    clipart = build("domainnet:clipart,analyses,from=runs/imported").finetune.data
    assert (clipart.train_size, clipart.test_size) == (None, None)
    assert len(open_split(clipart, "train")[1]) == 12
    assert num_examples(load(dataclasses.replace(clipart, test_size=3), "test")) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("domainnet:photos", "Expected one of real, clipart, quickdraw"),
        ("domainnet:real,shuffle,checkpoints", "shuffle and checkpoints exclude each other"),
        ("chexpert:twice", "Expected one of from=WORKDIR, or none"),
    ],
)
def test_arguments_that_are_none(name, message):
    with pytest.raises(ValueError, match=message):
        given(name)
