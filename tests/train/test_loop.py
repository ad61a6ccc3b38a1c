import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train import tiny
from tests.train.tiny import make_spec
from tlx import checkpoints
from tlx.checkpoints import owner
from tlx.core import tree
from tlx.core.sharding import make_mesh
from tlx.train import metrics_log, workdir
from tlx.train.loop import NonFiniteLossError, train
from tlx.train.spec import InitFrom, RunSpec
from tlx.train.workdir import RunResult

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all": {
        "mixup": 0.7,
        "data": {"augment": ("flip", "crop:1")},
        "model": {"options": {"normalise": True}},
    },
    "pulled": {"optim": {"rate": 0.05, "l2_to_init": 0.1, "nesterov": True, "grad_clip": 1.0}},
    "averaged": {
        # with an epsilon that a gradient of 0, give or take rounding, does not matter beside
        "optim": {"name": "adamw", "rate": 0.01, "epsilon": 1e-3},
        "model": {"options": {"normalise": True}},
        "label_smoothing": 0.1,
        "accumulate": 4,
        "ema": 0.8,
    },
}


def run(spec: RunSpec, folder: Path, **options: Any) -> RunResult:
    return train(spec, folder, mesh=make_mesh(jax.devices()[:1]), **options)


def files_of(folder: Path) -> tuple[str, dict[str, np.ndarray]]:
    weights = tree.named_leaves(checkpoints.restore(folder, as_numpy=True))
    return (folder / "metrics.jsonl").read_text(), weights


def assert_same_files(a: Path, b: Path) -> None:
    (text_a, weights_a), (text_b, weights_b) = files_of(a), files_of(b)
    assert text_a == text_b
    assert weights_a.keys() == weights_b.keys()
    for name, leaf in weights_a.items():
        np.testing.assert_array_equal(leaf, weights_b[name], err_msg=name)
    assert checkpoints.steps(a) == checkpoints.steps(b)


class Stop(Exception):
    pass


def stopping_at(when: int) -> Any:
    def progress(step: int, num_steps: int, numbers: Any) -> None:
        if step >= when:
            raise Stop

    return progress


def test_a_run_learns_and_leaves_its_files(tmp_path: Path) -> None:
    seen = []
    result = run(
        make_spec(num_steps=40, eval_every=10),
        tmp_path,
        progress=lambda step, total, numbers: seen.append((step, total, dict(numbers))),
    )
    assert result.test["accuracy"] > 0.6
    assert result.train["count"] == 48
    assert result.test["count"] == 30
    assert {p.name for p in tmp_path.iterdir()} == {
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "result.json",
        "telemetry.jsonl",
    }
    assert set(checkpoints.steps(tmp_path)) >= {0, 1, 2, 4, 8, 16, 32, 40, result.best_step}
    lines = metrics_log.read(tmp_path)
    train_lines = [line for line in lines if line["split"] == "train"]
    assert [line["step"] for line in train_lines] == [0, 10, 20, 30, 40]
    assert [line["step"] for line in lines if line["split"] == "batch"] == list(range(1, 41))
    mean = sum(line["accuracy"] for line in train_lines) / 5
    assert result.mean_train_accuracy == pytest.approx(mean)
    assert workdir.read_config(tmp_path) == make_spec(num_steps=40, eval_every=10)
    assert seen[0][:2] == (0, 40)
    assert seen[-1][:2] == (40, 40)
    assert seen[-1][2]["seconds_left"] == 0
    assert seen[5][2]["seconds_left"] > 0


def test_best_is_the_earliest_of_the_best_evaluations(uninterrupted: Any) -> None:
    folder = uninterrupted("plain")
    result = run(make_spec(), folder)
    tests = [line for line in metrics_log.read(folder) if line["split"] == "test"]
    best = max(line["accuracy"] for line in tests)
    first = next(line for line in tests if line["accuracy"] == best)
    assert (result.best_step, result.best_test["accuracy"]) == (first["step"], best)
    assert checkpoints.resolve(folder, "best") == first["step"]


def test_the_best_step_is_chosen_on_what_is_held_out(tmp_path: Path) -> None:
    result = run(make_spec(data={"valid_size": 8}), tmp_path)
    lines = metrics_log.read(tmp_path)
    valid = {x["step"]: x["accuracy"] for x in lines if x["split"] == "valid"}
    test = {x["step"]: x["accuracy"] for x in lines if x["split"] == "test"}
    assert {x["count"] for x in lines if x["split"] == "valid"} == {8}
    assert valid.keys() == test.keys()
    best = min(step for step in valid if valid[step] == max(valid.values()))
    assert (result.best_step, result.best_test["accuracy"]) == (best, test[best])
    assert checkpoints.resolve(tmp_path, "best") == best
    assert best != min(step for step in test if test[step] == max(test.values()))


def test_evaluation_is_that_of_the_checkpoint(uninterrupted: Any) -> None:
    folder = uninterrupted("all")  # with batch statistics
    variables = checkpoints.restore(folder)
    source = tiny._source("test")
    inputs = (source.images.astype(np.float32) / 255 - 0.5) / 0.3
    logits = tiny.Tiny(tiny.CLASSES, normalise=True).apply(variables, jnp.asarray(inputs))
    right = np.mean(np.argmax(np.asarray(logits), -1) == source.labels)
    line = metrics_log.read(folder)[-1]
    assert line["split"] == "test"
    assert line["accuracy"] == pytest.approx(right, abs=1e-6)


def test_a_finished_run_does_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(make_spec(num_steps=2), tmp_path)
    monkeypatch.setattr("tlx.train.job.make_job", None)
    again = run(make_spec(num_steps=2), tmp_path)
    assert again == first


def test_a_workdir_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    spec = make_spec(num_steps=2)
    with owner.hold(tmp_path), pytest.raises(owner.BusyError, match="choose another workdir"):
        run(spec, tmp_path)
    assert not list(tmp_path.iterdir())
    assert run(spec, tmp_path).step == 2
    assert not (tmp_path / owner.FILE).exists()


def test_a_run_whose_place_was_taken_writes_no_more(tmp_path: Path) -> None:
    """As after a laptop's sleep, while another process took the run over."""
    spec = make_spec(checkpoint={"rule": "none", "every": 1, "keep_best": False})

    def taken(step: int, num_steps: int, numbers: Any) -> None:
        if step == 4:
            other = owner._this()._replace(token="another", pid=1)
            (tmp_path / owner.FILE).write_text(json.dumps(other._asdict()))

    with pytest.raises(owner.LostError, match="nothing more is written here"):
        run(spec, tmp_path, progress=taken)
    assert checkpoints.steps(tmp_path)[-1] <= 4
    assert (tmp_path / owner.FILE).exists()


def test_no_steps_evaluates_and_saves(tmp_path: Path) -> None:
    result = run(make_spec(num_steps=0), tmp_path)
    assert result.step == 0
    assert checkpoints.steps(tmp_path) == (0,)


@pytest.mark.parametrize(
    ("when", "variant"),
    # what is taken up again depends on the variant, and when on none
    [
        *((when, "all") for when in (0, 1, 5, 8, 12)),
        (0, "pulled"),
        (5, "pulled"),
        (5, "plain"),
        (5, "averaged"),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_end(
    variant: str, when: int, tmp_path: Path, uninterrupted: Any
) -> None:
    spec = make_spec(**VARIANTS[variant])
    with pytest.raises(Stop):
        run(spec, tmp_path, progress=stopping_at(when))
    assert not (tmp_path / "result.json").exists()
    result = run(spec, tmp_path)
    assert_same_files(tmp_path, uninterrupted(variant))
    assert result.step == 12


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Path] = {}

    def get(variant: str) -> Path:
        if variant not in made:
            made[variant] = tmp_path_factory.mktemp(variant)
            run(make_spec(**VARIANTS[variant]), made[variant])
        return made[variant]

    return get


def test_stopped_twice_and_resume_every(tmp_path: Path) -> None:
    spec = make_spec(
        checkpoint={"rule": "none", "keep_best": False, "resume_every": 2}, eval_every=12
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(spec, whole)
    for when in (5, 9):
        with pytest.raises(Stop):
            run(spec, parts, progress=stopping_at(when))
        assert checkpoints.steps(parts) == (0, when - 3, when - 1)
    run(spec, parts)
    assert_same_files(parts, whole)
    assert checkpoints.steps(parts) == (0, 12)


def test_a_cut_off_line_is_dropped(tmp_path: Path, uninterrupted: Any) -> None:
    with pytest.raises(Stop):
        run(make_spec(), tmp_path, progress=stopping_at(7))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "spl')
    run(make_spec(), tmp_path)
    assert_same_files(tmp_path, uninterrupted("plain"))


def test_runs_share_compiled_code(tmp_path: Path) -> None:
    few = {"num_steps": 6, "eval_every": 6}
    run(make_spec(name="a", **few), tmp_path / "a")
    tiny.TRACES.clear()
    others = [
        make_spec(name="rate", optim={"rate": 0.01}, **few),
        make_spec(name="schedule", optim={"schedule": "constant", "warmup_steps": 3}, **few),
        make_spec(name="decay", optim={"weight_decay": 0.01, "momentum": 0.5}, **few),
        make_spec(name="seed", seed=5, **few),
        make_spec(name="data", data={"train_size": 40, "shuffle": "block:4"}, **few),
        make_spec(name="init", init_from=InitFrom(workdir=str(tmp_path / "a")), **few),
    ]
    ends = [run(spec, tmp_path / spec.name).test["loss"] for spec in others]
    assert not tiny.TRACES
    assert len(set(ends)) == len(ends)


def test_numbers_do_not_depend_on_the_devices(tmp_path: Path, uninterrupted: Any) -> None:
    for variant in ("plain", "all", "averaged"):
        four = tmp_path / variant
        train(make_spec(**VARIANTS[variant]), four)
        tiny.assert_close_metrics(uninterrupted(variant), four)


@pytest.mark.parametrize("head", ["zeros", "random", "keep"])
def test_init_from(head: str, tmp_path: Path, uninterrupted: Any) -> None:
    folder = uninterrupted("plain")
    spec = make_spec(
        name="P-T",
        kind="P-T",
        seed=3,
        num_steps=1,
        init_from=InitFrom(workdir=str(folder), step=8, head=head),
    )
    run(spec, tmp_path / "P-T")
    parent = checkpoints.restore(folder, 8)["params"]
    start = checkpoints.restore(tmp_path / "P-T", 0)["params"]
    np.testing.assert_array_equal(start["stem"]["kernel"], parent["stem"]["kernel"])
    is_kept = bool((start["head"]["kernel"] == parent["head"]["kernel"]).all())
    is_zero = not np.asarray(start["head"]["kernel"]).any()
    assert (is_kept, is_zero) == (head == "keep", head == "zeros")
    links = checkpoints.chain(checkpoints.origin(tmp_path / "P-T"))
    assert [(link["run"], link["step"]) for link in links] == [("P-T", 1), ("tiny", 8)]


def test_init_from_another_model_names_the_leaves(tmp_path: Path) -> None:
    run(make_spec(num_steps=1), tmp_path / "P")
    start = InitFrom(workdir=str(tmp_path / "P"))
    wide = make_spec(model={"options": {"width": 7}}, init_from=start)
    with pytest.raises(ValueError, match=r"params/stem/kernel: float32 3×3×1×6 in checkpoint"):
        run(wide, tmp_path / "P-T")
    with pytest.raises(ValueError, match="expected a checkpoint of step 7"):
        run(
            make_spec(init_from=dataclasses.replace(start, step=7)),
            tmp_path / "P-T",
        )


def test_init_from_a_run_that_is_not_done(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(make_spec(), tmp_path / "P", progress=stopping_at(5))
    spec = make_spec(init_from=InitFrom(workdir=str(tmp_path / "P")))
    with pytest.raises(ValueError, match=r"a run that is done for step 'last'.*0, 1, 2"):
        run(spec, tmp_path / "P-T")


def test_going_on_from_other_weights_is_refused(tmp_path: Path) -> None:
    for name, rate in (("A", 0.05), ("B", 0.01)):
        run(make_spec(name=name, optim={"rate": rate}, num_steps=2), tmp_path / name)
    spec_a, spec_b = (
        make_spec(init_from=InitFrom(workdir=str(tmp_path / name))) for name in ("A", "B")
    )
    with pytest.raises(Stop):
        run(spec_a, tmp_path / "T", progress=stopping_at(5))
    with pytest.raises(ValueError, match=r"started from 'A' step 2 .* now init_from is 'B' step 2"):
        run(spec_b, tmp_path / "T")


def test_a_workdir_of_another_config_is_refused(tmp_path: Path) -> None:
    run(make_spec(num_steps=1), tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    with pytest.raises(ValueError, match="a run of the same config") as caught:
        run(make_spec(num_steps=1, seed=1, optim={"rate": 0.2}), tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[1:3] == ["  optim.rate: 0.05 there, 0.2 here", "  seed: 0 there, 1 here"]
    assert "Choose another workdir" in lines[3]
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_a_run_that_failed_before_it_began_leaves_the_workdir_free(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train_size"):
        run(make_spec(data={"train_size": 10_000}), tmp_path)
    run(make_spec(num_steps=1), tmp_path)


def test_problems_are_told_before_any_work(tmp_path: Path) -> None:
    spec = make_spec(seed=-1, loss="softmac", optim={"rate": -1.0}, data={"batch_size": 0})
    with pytest.raises(ValueError, match="expected a valid spec") as caught:
        run(spec, tmp_path / "run")
    text = str(caught.value)
    for part in ("seed: expected", "did you mean 'softmax'", "optim.rate", "data.batch_size"):
        assert part in text
    assert not (tmp_path / "run").exists()


def test_a_batch_that_the_devices_do_not_divide(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiple of the 4 devices, got 6"):
        train(make_spec(data={"batch_size": 6}), tmp_path)


@pytest.mark.parametrize("log_every", [0, 1])
def test_a_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(
    log_every: int, tmp_path: Path
) -> None:
    spec = make_spec(num_steps=64, eval_every=64, optim={"rate": 1e18}, log_every=log_every)
    with pytest.raises(NonFiniteLossError, match="last good checkpoint is") as caught:
        run(spec, tmp_path)
    text = str(caught.value)
    last = checkpoints.steps(tmp_path)[-1]
    assert f"{tmp_path}/checkpoints/{last}" in text
    assert "Lower optim.rate" in text
    if log_every:  # steps count from 1: the one after the last whose loss is finite
        step = max(line["step"] for line in metrics_log.read(tmp_path)) + 1
        assert f"the loss of the batch of step {step} is not finite" in text
    for leaf in jax.tree.leaves(checkpoints.restore(tmp_path, last)):
        assert np.isfinite(leaf).all()
    for line in metrics_log.read(tmp_path):
        assert math.isfinite(line["loss"])
    assert not (tmp_path / "result.json").exists()


def test_multilabel(tmp_path: Path) -> None:
    spec = make_spec(
        loss="multilabel", mixup=0.3, data={"name": "tiny_multi"}, num_steps=30, eval_every=10
    )
    result = run(spec, tmp_path)
    assert result.test["accuracy"] > 0.6
    assert result.train["loss"] < 0.65
    tests = [line for line in metrics_log.read(tmp_path) if line["split"] == "test"]
    best = max(tests, key=lambda line: line["auc"])
    assert (result.best_step, result.best_test["auc"]) == (best["step"], best["auc"])
    for line in tests:
        np.testing.assert_allclose(line["auc"], np.mean(line["auc_of_label"]), rtol=1e-6)


def test_frozen_modules_stay(tmp_path: Path) -> None:
    run(make_spec(optim={"rules": (("stem/", 0.0),)}, num_steps=2), tmp_path)
    a, b = checkpoints.restore(tmp_path, 0)["params"], checkpoints.restore(tmp_path)["params"]
    np.testing.assert_array_equal(a["stem"]["kernel"], b["stem"]["kernel"])
    assert (a["head"]["kernel"] != b["head"]["kernel"]).any()


def test_result_json(tmp_path: Path) -> None:
    result = run(make_spec(num_steps=1), tmp_path)
    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored["test"]["accuracy"] == result.test["accuracy"]
    assert "workdir" not in stored


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_multilabel_run_whose_score_is_undefined(split: str, tmp_path: Path) -> None:
    """Of one example no label has both values: the last step is the best."""
    data = {"name": "tiny_multi", f"{split}_size": 1}
    result = run(make_spec(loss="multilabel", data=data, num_steps=4, eval_every=2), tmp_path)
    assert (result.best_step, result.step) == (4, 4)


@pytest.mark.parametrize("augment", [(), ("resized_crop",)], ids=["in memory", "lazily read"])
@pytest.mark.parametrize(("name", "loss"), [("tiny_multi", "softmax"), ("tiny", "multilabel")])
def test_a_loss_of_other_labels_stops_a_run_before_anything(
    name: str, loss: str, augment: tuple[str, ...], tmp_path: Path
) -> None:
    wanted = "multilabel" if loss == "softmax" else "softmax"
    spec = make_spec(loss=loss, data={"name": name, "augment": augment})
    with pytest.raises(ValueError, match=rf"^loss: expected '{wanted}' for images of .* '{loss}'$"):
        train(spec, tmp_path / "run")
    assert not (tmp_path / "run").exists()
