"""configs/pacs.py and configs/mobilenet.py on folders of images: built, and a small one run."""

from pathlib import Path

import numpy as np
import pytest

from tlx import checkpoints, config, records
from tlx.studies import runner
from tlx.studies.spec import StudySpec
from tlx.train.spec import RunSpec

Image = pytest.importorskip("PIL.Image")
ROOT = Path.cwd()
CONFIG, MOBILENET = (str(ROOT / "configs" / name) for name in ("pacs.py", "mobilenet.py"))
DOMAINS = ("photo", "cartoon", "sketch", "art_painting")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where data/cifar10 and data/pacs/DOMAIN are, two images a class and split."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("cifar10", *(f"pacs/{domain}" for domain in DOMAINS)):
        for split in ("train", "test"):
            for kind in ("dog", "horse", "house"):
                place = root / "data" / name / split / kind
                place.mkdir(parents=True)
                for i in range(2):
                    pixels = rng.integers(0, 256, (40, 36, 3), np.uint8)
                    Image.fromarray(pixels).save(place / f"{i}.png")
    return root


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def loaded(arg):
    found = config.load(f"{CONFIG}:{arg}").copy_and_resolve_references()
    with found.unlocked():
        for name in ("finetune", "scratch"):
            found[name].data.train_size = 6
    return found


@pytest.mark.parametrize("domain", DOMAINS)
def test_it_builds_at_full_size(domain, here):
    spec = config.build(StudySpec, loaded(domain))
    assert spec.finetune.data == spec.scratch.data
    assert spec.finetune.data.folder == f"data/pacs/{domain}"
    assert spec.pretrain.data.folder == "data/cifar10"
    assert spec.replicates == 5
    assert spec.arms == ("S-T",)


@pytest.mark.parametrize("part", ["pretrain", "scratch", "finetune=runs/photo/runs/p"])
def test_one_run_of_it(part, here):
    spec = config.build(RunSpec, config.load(f"{CONFIG}:cartoon,{part}"))
    assert spec.kind == {"p": "P", "s": "RI-T", "f": "P-T"}[part[0]]
    assert (spec.init_from is None) == (spec.kind != "P-T")


def test_a_small_one(here, tmp_path):
    found = loaded("sketch")
    with found.unlocked():
        found.questions, found.replicates, found.forks = ("sweep",), 1, ()
        found.axes = {"shuffle": ("block:4",), "init_step": (1,)}
        found.pretrain.checkpoint.steps, found.pretrain.optim.boundaries = (1,), (1,)
        for name in ("pretrain", "finetune", "scratch"):
            run = found[name]
            run.model.options = {"width": 2, "stage_sizes": (1,), "stem": "small"}
            run.data.update({"image_size": 16, "batch_size": 4})
            run.num_steps = run.eval_every = 2
        found.finetune.checkpoint.steps = found.scratch.checkpoint.steps = ()
    spec = config.build(StudySpec, found)
    study = runner.run(spec, tmp_path / "study")
    assert {r.inputs["axis"] for r in records.query(study.records, "sweep")} == {
        "shuffle",
        "init_step",
    }
    assert checkpoints.steps(tmp_path / "study" / "runs" / "p") == (0, 1, 2)


def test_mobilenet_to_a_folder(here):
    found = config.load(f"{MOBILENET}:data/pacs/photo").copy_and_resolve_references()
    with found.unlocked():
        for name in ("pretrain", "finetune", "scratch"):
            found[name].data.update({"train_size": 6, "test_size": 6})
    spec = config.build(StudySpec, found)
    assert spec.finetune.data.name == "folder"
    assert (spec.finetune.data.folder, spec.finetune.data.image_size) == ("data/pacs/photo", 96)
    assert config.load(f"{MOBILENET}:digits").finetune.data.image_size == 64
