"""A study of seconds: a net of a few weights, a few steps on 8×8 digits."""

from tlx.data.spec import DataSpec
from tlx.studies import questions
from tlx.studies.axes import Axes
from tlx.studies.spec import StudySpec
from tlx.train.spec import CheckpointSpec, ModelSpec, OptimSpec, RunSpec


def tiny_run(name, rate=0.05, **changes):
    options = {"width": 2, "stage_sizes": (1, 1), "stem": "small", "head_init": "zeros"}
    given = {
        "name": name,
        "kind": name,
        "seed": 0,
        "model": ModelSpec(name="fixup_resnet", options=options),
        "data": DataSpec(
            name="digits",
            train_size=40,
            test_size=300,
            image_size=8,
            channels=1,
            mean=(0.3,),
            std=(0.4,),
            shuffle_seed=1244,  # moves the blocks of 4; 1234 moves none of them
            batch_size=16,
            eval_batch_size=64,
        ),
        "optim": OptimSpec(rate=rate, rules=((r"(bias|scale)[^/]*$", 0.1),)),
        "num_steps": 4,
        "eval_every": 2,
        "checkpoint": CheckpointSpec(rule="log2"),
    }
    return RunSpec(**{**given, **changes})


def tiny_study(**changes):
    cka = {"batch_size": 128, "num_resamples": 20}
    given = {
        "name": "tiny",
        "title": "A tiny study",
        "pretrain": tiny_run("P", seed=7),
        "finetune": tiny_run("P-T", rate=0.01),
        "scratch": tiny_run("RI-T"),
        "axes": Axes(shuffle=("block:4",)),
        "partial": ("first:1:frozen",),
        "checkpoints": questions.Checkpoints(num_alphas=5),
        "interpolation": questions.Interpolation(num_alphas=5),
        "plane": questions.Plane(num_points=3),
        "basin": questions.Basin(noise=(0.01, 0.1), num_draws=3),
        "permutation": questions.Permutation(num_alphas=5),
        "instability": questions.Instability(num_alphas=5, **cka),
        "similarity": questions.Similarity(**cka),
        "similarity_by_step": questions.SimilarityByStep(**cka),
        "criticality": questions.Criticality(num_alphas=2, sigmas=(0.0, 0.1), num_draws=1),
    }
    return StudySpec(**{**given, **changes})
