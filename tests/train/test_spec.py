import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import pytest

from tests.train.tiny import make_spec
from tlx.config import serial, typed
from tlx.data.spec import DataSpec
from tlx.train import hooks, workdir
from tlx.train.loop import train
from tlx.train.spec import CheckpointSpec, InitFrom, ModelSpec, OptimSpec, RunSpec, digest


def full_spec() -> RunSpec:
    return make_spec(
        optim={"rules": (("bias", 0.1),), "boundaries": (3, 6), "schedule": "step"},
        model={"name": "fixup_resnet", "options": {"stage_sizes": (1, 1), "stem": "small"}},
        checkpoint={"steps": (1, 5)},
        init_from=InitFrom(workdir="runs/P", step=3, head="keep"),
    )


def test_a_good_spec_has_no_problems() -> None:
    assert full_spec().problems() == []


@pytest.mark.parametrize(
    ("part", "changes", "problem"),
    [
        (OptimSpec, {"rate": 0}, "rate: expected a number above 0, got 0"),
        (OptimSpec, {"rate": "fast"}, "rate: expected a number above 0, got 'fast'"),
        (OptimSpec, {"rate": float("nan")}, "rate: expected a number above 0, got nan"),
        (OptimSpec, {"momentum": 1.5}, "momentum: expected a number of at least 0 and at most 1"),
        (OptimSpec, {"nesterov": 1}, "nesterov: expected True or False, got 1"),
        (OptimSpec, {"schedule": "cosin"}, "did you mean 'cosine'?"),
        (OptimSpec, {"schedule": "step"}, "boundaries: expected at least one step"),
        (OptimSpec, {"boundaries": (2,)}, "use schedule 'step', or leave them out"),
        (OptimSpec, {"schedule": "step", "boundaries": (3, 2)}, "sort it and drop repetitions"),
        (OptimSpec, {"schedule": "step", "boundaries": [3]}, "expected a tuple of increasing"),
        (OptimSpec, {"rules": (("(", 0.1),)}, "rules[0]: expected a regular expression"),
        (OptimSpec, {"rules": (("a", -1),)}, "rules[0]: expected a number of at least 0"),
        (OptimSpec, {"rules": ("bias",)}, "rules[0]: expected a pair of"),
        (OptimSpec, {"rules": None}, "rules: expected a tuple of pairs"),
        (OptimSpec, {"grad_clip": 0}, "grad_clip: expected a number above 0"),
        (CheckpointSpec, {"rule": "log"}, "did you mean 'log2'?"),
        (CheckpointSpec, {"steps": (1, 1)}, "steps: expected a tuple of increasing integers"),
        (CheckpointSpec, {"every": 1.5}, "every: expected an integer of at least 0, got 1.5"),
        (InitFrom, {"step": "lst"}, "did you mean 'last'?"),
        (InitFrom, {"step": -1}, "step: expected an integer of at least 0, got -1"),
        (InitFrom, {"workdir": ""}, "workdir: expected a name"),
        (ModelSpec, {"dtype": "float16"}, "did you mean 'bfloat16'?"),
        (ModelSpec, {"options": (1,)}, "options: expected a mapping"),
        (ModelSpec, {"options": {"wdth": 3}}, "did you mean 'width'?"),
        (ModelSpec, {"name": "tinny"}, "did you mean 'tiny'?"),
    ],
)
def test_problems(part: Any, changes: dict[str, Any], problem: str) -> None:
    needed = {OptimSpec: {"rate": 0.1}, InitFrom: {"workdir": "P"}, ModelSpec: {"name": "tiny"}}
    found = part(**{**needed.get(part, {}), **changes}).problems()
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    ("field", "value", "became"),
    [
        ("rate", 1e39, "inf"),
        ("rate", 10**400, "inf"),
        ("rate", 1e-46, "0"),
        ("rate", 1e-40, "0"),  # XLA takes what is below the smallest normal number as 0
        ("momentum", 1 - 1e-9, "1"),
        ("beta2", 1 - 1e-9, "1"),
        ("epsilon", 1e-50, "0"),
        ("weight_decay", 1e39, "inf"),
        ("l2_to_init", 1e-50, "0"),
        ("grad_clip", 1e-50, "0"),
        ("rules", (("bias", 1e-50),), "0"),
    ],
    ids=lambda value: f"{value!s:.12}",
)
def test_numbers_that_float32_cannot_hold(field: str, value: Any, became: str) -> None:
    (said,) = OptimSpec(**{"rate": 0.1, field: value}).problems()
    assert said.startswith(field)
    assert "expected a number that float32 can hold" in said
    assert f"which becomes {became}; give " in said


def test_numbers_of_a_run_that_float32_cannot_hold() -> None:
    (said,) = make_spec(ema=1 - 1e-9).problems()
    assert said == (
        "ema: expected a number that float32 can hold, got 0.999999999, which becomes 1; give one "
        "further from 1"
    )
    assert make_spec(ema=1 - 1e-7, optim={"rate": 1e-37, "weight_decay": 1}).problems() == []


def test_modules_of_a_model_that_names_none() -> None:
    start = InitFrom(workdir="P", modules=("stem",))
    found = make_spec(optim={"freeze": ("stem",)}, init_from=start).problems()
    assert found == [
        f"{field}: expected none of model 'tiny', which has no `module_names` (a tuple, of the "
        "first level of its parameter tree), got ('stem',)"
        for field in ("init_from.modules", "optim.freeze")
    ]


def test_problems_of_a_run_are_told_together_with_their_fields() -> None:
    spec = make_spec(eval_every=0, optim={"rate": -1}, data={"shuffle": "block:5"})
    found = "\n".join(spec.problems())
    for part in ("eval_every: ", "optim.rate: ", "data.shuffle: expected a block size"):
        assert part in found
    late = make_spec(checkpoint={"steps": (99,)}, optim={"warmup_steps": 50})
    assert [p.split(":")[0] for p in late.problems()] == ["optim.warmup_steps", "checkpoint.steps"]
    assert "model: expected its dataclass" in "\n".join(
        dataclasses.replace(spec, model=None).problems()  # type: ignore[arg-type]
    )


def test_json_and_back() -> None:
    spec = full_spec()
    assert typed.build(RunSpec, json.loads(json.dumps(serial.to_dict(spec)))) == spec
    with pytest.raises(ValueError, match=r"optim.rat: unknown key 'rat'; did you mean 'rate'"):
        typed.build(RunSpec, serial.to_dict(spec) | {"optim": {"rat": 1}})
    with pytest.raises(ValueError, match=r"optim.rate: expected float, got none"):
        typed.build(RunSpec, serial.to_dict(spec) | {"optim": {}})


def test_digest_names_what_decides_the_numbers() -> None:
    spec = full_spec()
    same = dataclasses.replace(
        spec, name="other", kind="x", init_from=InitFrom(workdir="elsewhere", step=3, head="keep")
    )
    assert digest(same) == digest(spec)
    moved = dataclasses.replace(spec, data=dataclasses.replace(spec.data, folder="elsewhere"))
    assert digest(moved) == digest(spec)
    cut = dataclasses.replace(spec, data=dataclasses.replace(spec.data, fit=("center_crop:8",)))
    assert digest(cut) != digest(spec)
    for changes in ({"seed": 1}, {"num_steps": 13}, {"init_from": None}, {"mixup": 0.1}):
        assert digest(dataclasses.replace(spec, **changes)) != digest(spec)


def test_clock() -> None:
    now = [100.0]
    clock = hooks.Clock(lambda: now[0])
    assert clock.seconds == 0
    assert clock.estimate(0, 10) == {}
    clock.start(1)
    assert clock.estimate(1, 10) == {}
    now[0] = 104.0
    clock.start(2)
    assert clock.estimate(3, 10) == {"seconds_per_step": 2.0, "seconds_left": 14.0}


def test_later_fields_at_their_defaults_leave_what_earlier_versions_wrote_as_it_is() -> None:
    """Values and digest as written before the optimiser had a name."""
    data = DataSpec(
        name="synthetic",
        image_size=8,
        channels=3,
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        batch_size=4,
        eval_batch_size=4,
    )
    spec = RunSpec(
        name="P",
        kind="P",
        seed=3,
        model=ModelSpec(name="mlp", options={"hidden": [4]}),
        data=data,
        optim=OptimSpec(rate=0.1),
        num_steps=2,
        eval_every=1,
    )
    assert digest(spec) == "97894373bf292c56431581a07b776cd7d0eb0f964db54ba9e3f7f6cd1bd7c118"
    adam = dataclasses.replace(spec, optim=OptimSpec(rate=0.1, name="adamw"))
    changed = [dataclasses.replace(spec, accumulate=2), dataclasses.replace(spec, ema=0.5), adam]
    assert len({digest(each) for each in (spec, *changed)}) == 4


def test_a_workdir_of_an_earlier_version_holds_the_same_run(tmp_path: Path) -> None:
    spec = make_spec()
    values = serial.to_dict(spec)
    for field in ("accumulate", "ema", "label_smoothing"):
        del values[field]
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "result.json").write_text("{}")  # so that it counts as begun
    workdir.require_same(tmp_path, spec)
    with pytest.raises(ValueError, match=r"accumulate: 1 there, 4 here") as error:
        workdir.require_same(tmp_path, dataclasses.replace(spec, accumulate=4))
    assert "ema" not in str(error.value)
    (tmp_path / "config.json").write_text(json.dumps(values | {"strange": 1}))
    with pytest.raises(ValueError, match="strange: 1 there, absent here"):
        workdir.require_same(tmp_path, spec)


def test_what_is_no_spec_or_mesh_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="expected a RunSpec, got dict"):
        train({}, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected a mesh, .*, got list"):
        train(make_spec(), tmp_path, mesh=jax.devices())  # type: ignore[arg-type]
