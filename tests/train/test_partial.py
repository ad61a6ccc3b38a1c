"""Partial transfer: some modules from a checkpoint, some frozen."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train import tiny
from tlx import checkpoints, models
from tlx.config import serial, typed
from tlx.core import tree
from tlx.core.sharding import make_mesh
from tlx.train import metrics_log, optim, workdir
from tlx.train.loop import train
from tlx.train.spec import InitFrom, OptimSpec, RunSpec, digest
from tlx.train.state import init_variables, make_state
from tlx.train.step import StepConfig, StepInputs, make_step

BODY = ("stem", "norm", "block")
MODULES = (*BODY, "head")


class Block(nn.Module):
    """With a statistic of its own, the number of its training steps."""

    width: int

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        seen = self.variable("batch_stats", "seen", lambda: jnp.zeros(()))
        if train:
            seen.value += 1
        x = nn.Conv(self.width, (3, 3), strides=(2, 2), name="conv")(x)
        return jax.nn.relu(nn.BatchNorm(name="inner")(x, use_running_average=not train))


class Parts(nn.Module):
    num_classes: int
    width: int = 4
    dtype: str = "float32"

    @property
    def module_names(self) -> tuple[str, ...]:
        return MODULES

    @nn.compact
    def __call__(self, inputs: Any, train: bool = False) -> Any:
        x = nn.Conv(4, (3, 3), strides=(2, 2), name="stem")(inputs)
        x = jax.nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))
        x = Block(self.width, name="block")(x, train)
        return nn.Dense(self.num_classes, name="head")(x.reshape(len(x), -1))


models.MODELS["parts"] = Parts


def make_spec(**changes: Any) -> RunSpec:
    model = {"name": "parts"} | changes.pop("model", {})
    return tiny.make_spec(**{"num_steps": 6, "eval_every": 3, "model": model, **changes})


def run(spec: RunSpec, folder: Path, **options: Any) -> Any:
    return train(spec, folder, mesh=make_mesh(jax.devices()[:1]), **options)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("P")
    run(make_spec(name="P", seed=5), folder)
    return folder


def leaves(folder: Path, step: int | str = "last") -> dict[str, np.ndarray]:
    return tree.named_leaves(checkpoints.restore(folder, step, as_numpy=True))


def module_of(name: str) -> str:
    return name.split("/")[1]


def assert_same_runs(a: Path, b: Path) -> None:
    assert metrics_log.read(a) == metrics_log.read(b)
    for step in (0, 6):
        left, right = leaves(a, step), leaves(b, step)
        assert left.keys() == right.keys()
        for name, leaf in left.items():
            np.testing.assert_array_equal(leaf, right[name], err_msg=name)


def test_no_modules_are_random_initialisation(pretrained: Path, tmp_path: Path) -> None:
    start = InitFrom(workdir=str(pretrained), modules=(), head="random")
    run(make_spec(init_from=start), tmp_path / "none")
    run(make_spec(), tmp_path / "RI")
    assert_same_runs(tmp_path / "none", tmp_path / "RI")


@pytest.mark.parametrize("head", ["zeros", "keep"])
def test_all_modules_are_fine_tuning(head: str, pretrained: Path, tmp_path: Path) -> None:
    start = InitFrom(workdir=str(pretrained), modules=BODY, head=head)
    run(make_spec(init_from=start), tmp_path / "all")
    run(make_spec(init_from=dataclasses.replace(start, modules=None)), tmp_path / "P-T")
    assert_same_runs(tmp_path / "all", tmp_path / "P-T")


@pytest.mark.parametrize("taken", [BODY[:1], BODY[:2], BODY[1:]], ids="+".join)
@pytest.mark.parametrize("head", ["zeros", "random", "keep"])
def test_each_module_starts_where_it_should(
    taken: tuple[str, ...], head: str, pretrained: Path, tmp_path: Path
) -> None:
    start = InitFrom(workdir=str(pretrained), modules=taken, head=head)
    run(make_spec(num_steps=0, init_from=start), tmp_path)
    began, parent = leaves(tmp_path, 0), leaves(pretrained)
    fresh = tree.named_leaves(init_variables(Parts(tiny.CLASSES), 0, (1, 8, 8, 1)))
    assert began.keys() == fresh.keys()
    for name, leaf in began.items():
        module = module_of(name)
        is_taken = module in taken or (module == "head" and head == "keep")
        expected = parent[name] if is_taken else np.asarray(fresh[name])
        if module == "head" and head == "zeros":
            expected = np.zeros_like(leaf)
        np.testing.assert_array_equal(leaf, expected, err_msg=name)
    different = {module_of(n) for n in parent if (parent[n] != np.asarray(fresh[n])).any()}
    assert different == set(MODULES)  # so that the check above could have failed
    links = checkpoints.chain(checkpoints.origin(tmp_path))
    assert [link["run"] for link in links] == ["tiny", "P"]


def test_statistics_of_the_checkpoint_without_its_weights(tmp_path: Path) -> None:
    wide = {"options": {"width": 64}}
    run(make_spec(name="P", seed=5, model=wide), tmp_path / "P")
    start = InitFrom(workdir=str(tmp_path / "P"), weights="statistics")
    for name, seed in (("a", 0), ("same", 0), ("b", 1)):
        spec = make_spec(num_steps=0, seed=seed, model=wide, init_from=start)
        run(spec, tmp_path / name)
    parent = leaves(tmp_path / "P")
    a, same, b = (leaves(tmp_path / name, 0) for name in ("a", "same", "b"))
    fresh = tree.named_leaves(init_variables(Parts(tiny.CLASSES, 64), 0, (1, 8, 8, 1)))
    assert a.keys() == parent.keys()
    for name, leaf in a.items():
        np.testing.assert_array_equal(leaf, same[name], err_msg=name)
        if module_of(name) == "head" or name.startswith("batch_stats/"):
            is_zero = module_of(name) == "head"
            expected = np.zeros_like(leaf) if is_zero else np.asarray(fresh[name])
            np.testing.assert_array_equal(leaf, expected, err_msg=name)
            continue
        like = parent[name].astype(np.float64)
        assert abs(leaf.mean() - like.mean()) <= 5 * like.std() / np.sqrt(like.size), name
        assert abs(leaf.std() / like.std() - 1) <= 5 / np.sqrt(2 * like.size), name
        assert leaf.dtype == parent[name].dtype
        for other in (parent[name], np.asarray(fresh[name]), b[name]):
            if min(other.std(), leaf.std()) > 0 and leaf.size >= 64:
                correlation = np.corrcoef(leaf.ravel(), other.ravel())[0, 1]
                assert abs(correlation) <= 5 / np.sqrt(leaf.size), name
    kernel = "params/block/conv/kernel"  # of 2,304 numbers, so that the check above says something
    assert abs(parent[kernel].std() / np.asarray(fresh[kernel]).std() - 1) > 1e-4
    assert (b[kernel] != a[kernel]).mean() > 0.99


def test_a_tensor_of_equal_values_keeps_them(tmp_path: Path) -> None:
    run(make_spec(name="P", num_steps=0), tmp_path / "P")  # its biases are 0 and its scales 1
    start = InitFrom(workdir=str(tmp_path / "P"), weights="statistics")
    run(make_spec(num_steps=0, seed=3, init_from=start), tmp_path / "S-T")
    drawn, parent = leaves(tmp_path / "S-T"), leaves(tmp_path / "P")
    equal = [n for n in parent if n.startswith("params/") and parent[n].std() == 0]
    assert len(equal) > 3
    for name in equal:
        np.testing.assert_array_equal(drawn[name], parent[name], err_msg=name)


def test_no_such_way_with_weights() -> None:
    (problem,) = InitFrom(workdir="P", weights="statistic").problems()
    assert "statistics" in problem


def test_only_what_is_taken_must_fit(pretrained: Path, tmp_path: Path) -> None:
    wide = {"options": {"width": 7}}
    start = InitFrom(workdir=str(pretrained), modules=("stem", "norm"))
    run(make_spec(num_steps=0, model=wide, init_from=start), tmp_path / "fits")
    parent, began = leaves(pretrained), leaves(tmp_path / "fits")
    np.testing.assert_array_equal(began["params/stem/kernel"], parent["params/stem/kernel"])
    for changes, leaf in (({"modules": BODY}, "block/conv/kernel"), ({"head": "keep"}, "head")):
        spec = make_spec(model=wide, init_from=dataclasses.replace(start, **changes))
        with pytest.raises(ValueError, match=f"params/{leaf}.* in checkpoint") as caught:
            run(spec, tmp_path / "not")
        assert "stem" not in str(caught.value)


HARSH = {"rate": 0.1, "weight_decay": 0.1, "l2_to_init": 0.1, "grad_clip": 1.0, "nesterov": True}


@pytest.mark.parametrize("freeze", [("stem", "norm"), ("block",)], ids=str)
def test_frozen_modules_stay_to_the_bit(
    freeze: tuple[str, ...], pretrained: Path, tmp_path: Path
) -> None:
    start = InitFrom(workdir=str(pretrained), head="keep")
    spec = make_spec(init_from=start, num_steps=3, optim=HARSH | {"freeze": freeze})
    run(spec, tmp_path)
    before, after = leaves(tmp_path, 0), leaves(tmp_path)
    for name, leaf in before.items():
        assert (leaf.tobytes() == after[name].tobytes()) == (module_of(name) in freeze), name
    assert workdir.read_config(tmp_path).optim.freeze == freeze


def test_a_frozen_body_leaves_the_regression_of_its_features() -> None:
    """Three steps of the head are those of logistic regression in float64."""
    freeze, rng = BODY, np.random.default_rng(0)
    model = Parts(3)
    variables = init_variables(model, 0, (1, 8, 8, 1))
    variables["batch_stats"] = jax.tree.map(
        lambda x: x + jnp.asarray(rng.random(x.shape), jnp.float32), variables["batch_stats"]
    )
    spec = OptimSpec(rate=0.2, weight_decay=0.01, momentum=0.9, freeze=freeze)
    config = StepConfig(model, "softmax", 0.0, optim.static_of(spec))
    state = make_state(variables, config.optim, 0)
    assert {n.split("/")[-2] for n in tree.names(state.opt_state)} == {"head"}
    inputs = rng.standard_normal((3, 10, 8, 8, 1)).astype(np.float32)
    labels = rng.integers(0, 3, (3, 10))
    step = make_step(config, make_mesh(jax.devices()[:1]))
    for x, y in zip(inputs, labels, strict=True):
        numbers = StepInputs(np.float32(0.2), optim.hyper_of(spec))
        state, _ = step(state, {"inputs": x, "labels": y}, numbers)

    _, kept = model.apply(
        variables, inputs.reshape(30, 8, 8, 1), capture_intermediates=True, mutable="intermediates"
    )
    features = np.asarray(kept["intermediates"]["block"]["__call__"][0], np.float64)
    features = np.concatenate([features.reshape(3, 10, -1), np.ones((3, 10, 1))], -1)
    head = {k: np.asarray(v, np.float64) for k, v in variables["params"]["head"].items()}
    w = np.vstack([head["kernel"], head["bias"]])
    buffer = np.zeros_like(w)
    for z, y in zip(features, labels, strict=True):
        p = np.exp(z @ w) / np.exp(z @ w).sum(1, keepdims=True)
        buffer = 0.9 * buffer + z.T @ (p - np.eye(3)[y]) / 10 + 0.01 * w
        w = w - 0.2 * buffer
    got = state.params["head"]
    np.testing.assert_allclose(np.vstack([got["kernel"], got["bias"]]), w, rtol=1e-4, atol=1e-6)


def test_a_rule_for_frozen_leaves_is_no_dead_rule() -> None:
    params = init_variables(Parts(3), 0, (1, 8, 8, 1))["params"]
    spec = OptimSpec(rate=0.1, rules=(("stem/bias", 0.5),), freeze=("stem",))
    state = make_state({"params": params}, optim.static_of(spec), 0)
    assert tree.count(state.opt_state) == tree.count(params) - tree.count(params["stem"])


def test_a_frozen_run_that_was_stopped_goes_on(pretrained: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def progress(step: int, num_steps: int, numbers: Any) -> None:
        if step >= 4:
            raise Stop

    start = InitFrom(workdir=str(pretrained), modules=("stem",))
    spec = make_spec(init_from=start, optim={"freeze": ("stem", "norm")})
    with pytest.raises(Stop):
        run(spec, tmp_path / "parts", progress=progress)
    run(spec, tmp_path / "parts")
    run(spec, tmp_path / "whole")
    assert_same_runs(tmp_path / "parts", tmp_path / "whole")
    with pytest.raises(ValueError, match="a run of the same config") as caught:
        run(dataclasses.replace(spec, optim=OptimSpec(rate=0.05)), tmp_path / "whole")
    assert '  optim.freeze: ["stem", "norm"] there, [] here' in str(caught.value)


def test_what_is_taken_and_frozen_is_part_of_the_digest() -> None:
    base = make_spec(init_from=InitFrom(workdir="P"))
    others = [
        make_spec(init_from=InitFrom(workdir="P", modules=())),
        make_spec(init_from=InitFrom(workdir="P", modules=("stem",))),
        make_spec(init_from=InitFrom(workdir="P"), optim={"freeze": ("stem",)}),
    ]
    assert len({digest(spec) for spec in (base, *others)}) == 4
    for spec in others:
        assert typed.build(RunSpec, json.loads(json.dumps(serial.to_dict(spec)))) == spec


@pytest.mark.parametrize(
    ("modules", "freeze", "problem"),
    [
        (
            ("stm",),
            (),
            "init_from.modules: unknown module 'stm'; did you mean 'stem'? "
            "Known: block, head, norm, stem",
        ),
        (
            None,
            ("blok",),
            "optim.freeze: unknown module 'blok'; did you mean 'block'? "
            "Known: block, head, norm, stem",
        ),
        (
            ("stem", "head"),
            (),
            "init_from.modules: expected modules other than 'head', got ('stem', 'head'); "
            "leave it out, and take it by head 'keep'",
        ),
        (
            "stem",
            (),
            "init_from.modules: expected a tuple of names of modules, got 'stem'",
        ),
        (None, (1,), "optim.freeze: expected a tuple of names of modules, got (1,)"),
        (
            None,
            MODULES,
            "optim.freeze: expected a module that is left to train, got all of them",
        ),
    ],
    ids=str,
)
def test_problems(modules: Any, freeze: Any, problem: str) -> None:
    start = InitFrom(workdir="P", modules=modules)
    assert make_spec(init_from=start, optim={"freeze": freeze}).problems() == [problem]


def test_the_start_is_the_mean_of_runs(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for seed, folder in enumerate(folders):
        run(make_spec(name=folder.name, seed=seed), folder)
    first, *others = map(str, folders)
    for name, average, head in (("mean", others, "keep"), ("other", others[::-1], "keep"),
                                ("fresh", others, "zeros")):  # fmt: skip
        start = InitFrom(workdir=first, average=tuple(average), head=head)
        run(make_spec(num_steps=0, seed=7, init_from=start), tmp_path / name)
    every = [leaves(folder) for folder in folders]
    began, other, fresh = (leaves(tmp_path / name, 0) for name in ("mean", "other", "fresh"))
    for name, leaf in began.items():
        expected = np.mean([own[name].astype(np.float64) for own in every], axis=0)
        size = np.mean([abs(own[name]) for own in every], axis=0)  # of what is summed, in float32
        assert (abs(leaf - expected) <= 3e-7 * size).all(), name
        np.testing.assert_array_equal(leaf, other[name], err_msg=name)
        assert leaf.dtype == every[0][name].dtype
        if module_of(name) == "head":
            assert not fresh[name].any()
    start = checkpoints.origin(tmp_path / "mean")["init_from"]
    assert start["run"] == "mean of a, b, c"
    assert checkpoints.identity(start) == checkpoints.identity(
        checkpoints.origin(tmp_path / "other")["init_from"]
    )
    assert checkpoints.identity(start) != checkpoints.identity(checkpoints.origin(folders[0]))
    two = InitFrom(workdir=first, average=tuple(others[:1]), head="keep")
    with pytest.raises(ValueError, match="the start: it started from 'mean of a, b, c'"):
        run(make_spec(num_steps=0, seed=7, init_from=two), tmp_path / "mean")


def test_runs_of_two_models_have_no_mean(pretrained: Path, tmp_path: Path) -> None:
    run(make_spec(name="wide", model={"options": {"width": 7}}), tmp_path / "wide")
    start = InitFrom(workdir=str(pretrained), average=(str(tmp_path / "wide"),))
    with pytest.raises(ValueError, match=r"params/block/conv/kernel.* in checkpoint .*"):
        run(make_spec(init_from=start), tmp_path / "run")
    gone = InitFrom(workdir=str(pretrained), average=(str(tmp_path / "gone"),))
    with pytest.raises(ValueError, match=r"there is no folder .*gone"):
        run(make_spec(init_from=gone), tmp_path / "run")
    assert not checkpoints.steps(tmp_path / "run")
    (problem,) = InitFrom(workdir="a", average=("b", "a")).problems()
    assert problem.startswith("average: expected each run once")
    for again in ("a/", "./a", f"{Path.cwd()}/a"):
        assert InitFrom(workdir="a", average=("b", again)).problems()


def test_statistics_of_no_run(tmp_path: Path) -> None:
    start = InitFrom(workdir=str(tmp_path / "P"), weights="statistics")
    with pytest.raises(ValueError, match=r"there is no folder .*P"):
        run(make_spec(init_from=start), tmp_path / "S-T")
    assert not checkpoints.steps(tmp_path / "S-T")
