"""What a study asks, and everything that can be wrong with its config."""

import dataclasses
from pathlib import Path

import pytest

from tests.studies.tiny import tiny_study
from tlx import records
from tlx.config import typed
from tlx.studies import plan, questions
from tlx.studies.axes import Axes
from tlx.studies.questions import NAMES, Questions
from tlx.studies.spec import StudySpec

ROOT = Path("w")


def asked(spec):
    planned = plan.make(spec, ROOT)
    return [name for name, question in spec.asked().items() if question.subjects(planned)]


def test_a_study_asks_all_questions_or_those_it_names():
    every = tiny_study(axes=Axes(init_step=(0,), target=("mnist5k",)), forks=(0,))
    assert every.problems() == []
    assert asked(every) == ["learning_curve", "mean_learning_curves", *NAMES, "study"]
    some = tiny_study(questions=("mistakes", "sweep"), replicates=1)
    assert some.problems() == []
    assert asked(some) == ["learning_curve", "mean_learning_curves", "sweep", "mistakes", "study"]


def test_a_question_has_one_name():
    """Of its file, its field, the kind of its records and, in camel case, its classes."""
    for name, question in Questions().by_name().items():
        camel = "".join(word.capitalize() for word in name.split("_"))
        assert type(question).__name__ == records.KINDS[name].results.__name__ == camel
        assert type(question).__module__ == f"tlx.studies.questions.{name}"
        assert isinstance(type(question).version, int)
        options = {field.name for field in dataclasses.fields(question)}
        assert options <= records.KINDS[name].options
    files = {path.stem for path in Path(questions.__file__).parent.glob("*.py")}
    assert files - {"__init__"} == set(Questions().by_name()) == set(records.KINDS)


def test_a_study_is_built_from_what_it_sets():
    spec = tiny_study()
    given = dataclasses.asdict(spec)
    for name in NAMES:
        del given[name]
    plain = typed.build(StudySpec, given)
    assert plain.basin == questions.Basin()
    set_one = typed.build(StudySpec, given | {"basin": {"num_draws": 8}})
    assert set_one.basin == questions.Basin(num_draws=8)
    with pytest.raises(typed.ConfigError) as error:
        typed.build(StudySpec, given | {"basin": {"draws": 8}, "planes": {}, "axes": {"sizes": ()}})
    for line in (
        "basin.draws: unknown key 'draws'; did you mean 'num_draws'?",
        "planes: unknown key 'planes'; did you mean 'plane'?",
        "axes.sizes: unknown key 'sizes'",
    ):
        assert line in str(error.value)


def test_problems_of_all_questions_are_told_at_once():
    spec = tiny_study(
        plane=questions.Plane(num_points=1),
        basin=questions.Basin(noise=(), num_draws=1),
        questions=("swept",),
    )
    assert [problem.partition(":")[0] for problem in spec.problems()] == [
        "plane.num_points",
        "basin.noise",
        "basin.num_draws",
        "questions",
    ]


INCREASING = "expected numbers that increase from 0 or more, with one above 0"


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (questions.Interpolation(num_alphas=2), "num_alphas: expected an integer of at least 3"),
        (questions.Permutation(num_alphas=2), "num_alphas: expected an integer of at least 3"),
        (questions.Checkpoints(num_alphas=2), "num_alphas: expected an integer of at least 3"),
        (questions.Checkpoints(tolerance=-1.0), "tolerance: expected a number of at least 0"),
        (questions.Plane(num_points=1), "num_points: expected an integer of at least 2"),
        (questions.Basin(num_draws=1), "num_draws: expected an integer of at least 2"),
        (questions.Basin(noise=(0.2, 0.1)), f"noise: {INCREASING}, got (0.2, 0.1)"),
        (questions.Basin(noise=()), f"noise: {INCREASING}, got ()"),
        (questions.Basin(tolerance=-1.0), "tolerance: expected a number of at least 0"),
        (questions.Criticality(num_alphas=1), "num_alphas: expected an integer of at least 2"),
        (questions.Criticality(sigmas=(0.0,)), f"sigmas: {INCREASING}, got (0.0,)"),
        (questions.Criticality(num_draws=0), "num_draws: expected an integer of at least 1"),
        (questions.Criticality(tolerance=-1.0), "tolerance: expected a number of at least 0"),
        (questions.Similarity(batch_size=3), "batch_size: expected an integer of at least 4"),
        (
            questions.Similarity(num_resamples=-1),
            "num_resamples: expected an integer of at least 0",
        ),
        (
            questions.Similarity(spatial="pol"),
            "spatial: unknown way with positions 'pol'; did you mean 'pool'?",
        ),
        (
            questions.SimilarityByStep(spatial="positions"),
            "num_resamples: expected 0 with spatial 'positions'",
        ),
        (questions.MovementAlignment(rank=0), "rank: expected an integer of at least 1"),
        (questions.Spectra(kind="round"), "kind: unknown kind 'round'"),
    ],
)
def test_problems_with_options_are_told(question, message):
    (problem,) = question.problems()
    assert problem.startswith(message)
    names = {type(one): name for name, one in Questions().by_name().items()}
    name = names[type(question)]
    assert tiny_study(**{name: question}).problems() == [f"{name}.{problem}"]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"shuffle": ("block:4", "block:4")}, "shuffle: expected each once, and not 'none'"),
        ({"shuffle": ("none",)}, "shuffle: expected each once, and not 'none'"),
        ({"shuffle": ("block:3",)}, "shuffle: shuffle: expected a block size that divides"),
        ({"train_size": (40,)}, "train_size: expected each once, and not 40"),
        ({"train_size": (2000,)}, "train_size: expected train_size and valid_size of at most"),
        ({"target": ("digits",)}, "target: expected each once, and not 'digits'"),
        ({"target": ("digit",)}, "target: name: unknown source 'digit'; did you mean 'digits'"),
        (
            {"init_step": (3,)},
            "init_step: expected steps before the last that pretrain.checkpoint keeps, each once: "
            "some of [0, 1, 2], got (3,)",
        ),
        ({"init_step": (4,)}, "init_step: expected steps before the last"),
        ({"init_step": (1, 1)}, "init_step: expected steps before the last"),
    ],
)
def test_problems_with_axes_are_told(axes, message):
    (problem,) = tiny_study(axes=Axes(**axes)).problems()
    assert problem.startswith(f"axes.{message}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rates": (0.1, 0.0)}, "rates: expected numbers above 0, got (0.1, 0.0)"),
        ({"rates": (0.1, 0.1)}, "rates: expected each once, got (0.1, 0.1)"),
        ({"rates": (0.01,)}, "rates: expected both of the rates of finetune and scratch among"),
        (
            {"axes": Axes(init_step=(1,)), "init_step": 2},
            "axes.init_step: expected the study's init_step to be 'last'",
        ),
        ({"questions": ("swept",)}, "questions: unknown question 'swept'; did you mean 'sweep'"),
        (
            {"replicates": 1},
            "replicates: expected at least 2, for two runs of one recipe in basin, ",
        ),
        ({"replicates": 0}, "replicates: expected an integer of at least 1"),
    ],
)
def test_other_problems_are_told(changes, message):
    (problem,) = tiny_study(**changes).problems()
    assert problem.startswith(message)


def test_the_questions_that_one_run_of_a_recipe_can_answer_are_named():
    (problem,) = tiny_study(replicates=1).problems()
    names = tuple(problem.split("choose questions from ")[1].split(", "))
    assert {"rewinding", "sweep", "mistakes"} <= set(names)
    assert not tiny_study(replicates=1, questions=names).problems()
