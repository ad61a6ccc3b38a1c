"""The whole way once, on real images that packages ship.

Question: what is transferred from MNIST digits to a hundred of scikit-learn's digits, features or
low-level statistics? Do two fine-tuned models share a basin, their features and their mistakes,
where two models trained from random weights do not, and how much is left of the advantage when the
images are cut into blocks and shuffled? P-T, RI-T and S-T, random weights with the mean and the
standard deviation of each tensor of P, from five seeds each.

Command: tlx study --config=configs/mini.py --workdir=runs/mini
Some of its questions only: --config.questions="('interpolation', 'basin')".
With fine-tuning from some modules of P only: configs/mini.py:depth, fourteen runs more.
One run of it alone: tlx train --config=configs/mini.py:scratch --workdir=runs/scratch, or
:pretrain, or :finetune=WORKDIR, which starts from the run in WORKDIR.

Cost: five minutes on two CPU cores (4 min 48 s, with nothing compiled before), nine of processor
time: 64 runs of a net of 19,491 weights, 1,000 steps of P and 200 of each other, 32 images each,
and what is asked of them; 51 MB on disk.

Expected (seen on two cores, jax 0.10.2; 797 test images; 95 % intervals over runs): P-T ends at
88.6 [86.9, 90.3] %, S-T at 83 [80, 86] and RI-T at 81 [78, 84]; with 2x2 blocks shuffled at 85.4,
85.6 and 82.8, so that the advantage of P-T is 5 [1, 9] points smaller there, and what features
bring (P-T − S-T), 6 [2, 9] points on whole images, is nothing measurable; between two P-T the line
has no dip, between two S-T accuracy falls 70 points, between two RI-T 69; two P-T share a basin,
with delta of 2.8 to 5.6 (0.02 to 0.04 a parameter), two RI-T none; two P-T are 4.4 apart in l2, two
RI-T 17.0; mean CKA over layers 0.92 [0.90, 0.94] against 0.81 [0.75, 0.87]; one module rewound to
step 0 costs P-T 15.1 [14.2, 16.0] points on average, RI-T 32 [18, 45]; kappa of mistakes 0.51
[0.39, 0.62] against 0.38 [0.33, 0.43]. Copies of P-T that part at any step share a basin, of RI-T
from step 20 on.
RI-T trains from every seed: of twenty (0, 1000, 2000 and so on) it ends at 81.0 % on average, at
77.3 at the least and 85.4 at the most.
With :depth, one run each, all at P-T's recipe: the first four modules from P bring 90.5 %, all but
the first two 88.7 %, all but the first four 78.5 %, none 71.4 %.
"""

import ml_collections

from tlx.config import arguments

SIZE = 16


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    (word,) = arguments(arg, ("depth", "pretrain", "finetune=WORKDIR", "scratch"))
    config = study()
    if word == "depth":
        config.partial = depth()
    if word in ("", "depth"):
        return config
    part, _, workdir = word.partition("=")
    if workdir:
        config[part].init_from = {"workdir": workdir, "step": "last", "head": "zeros"}
    return config[part]


def study() -> ml_collections.ConfigDict:
    pretrain = run(name="P", kind="P", source="mnist5k", rate=0.1, num_steps=1000)
    pretrain.checkpoint.rule = "log2"
    pretrain.eval_every = pretrain.num_steps // 2
    pretrain.data.mean, pretrain.data.std = (0.132,), (0.290,)
    finetune = run(name="P-T", kind="P-T", source="digits", rate=0.2, num_steps=200)
    scratch = run(name="RI-T", kind="RI-T", source="digits", rate=0.2, num_steps=200)
    for target in (finetune, scratch):
        target.checkpoint.steps = (16, 64)
        target.data.train_size = 100
        target.data.mean, target.data.std = (0.305,), (0.323,)
    config = ml_collections.ConfigDict()
    config.name = "mini"
    config.title = "What is transferred from MNIST to digits?"
    config.pretrain, config.finetune, config.scratch = pretrain, finetune, scratch
    config.init_step = "last"
    config.init_head = "zeros"
    config.arms = ("S-T",)
    config.replicates = 5
    config.axes = {"shuffle": ("block:2", "block:8")}
    config.forks = (0, 20, 80)
    config.partial = ()
    for question in ("interpolation", "checkpoint_interpolation", "permutation", "instability"):
        config[question] = {"num_alphas": 11}
    config.similarity = {"num_resamples": 0}  # of five runs the interval is one over runs
    config.plane = {"num_points": 7}
    config.basin = {"noise": (0.02, 0.04, 0.08), "num_draws": 8, "tolerance": 0.02}
    config.criticality = {
        "num_alphas": 5,
        "sigmas": (0.02, 0.05, 0.1),
        "num_draws": 1,
        "tolerance": 0.02,
    }
    return config


def depth() -> tuple[str, ...]:
    """The first k of the body's five modules from P, tuned or frozen, and all but those."""
    first = [f"first:{k}" for k in range(5)]
    frozen = [f"first:{k}:frozen" for k in range(1, 6)]
    return (*first, *frozen, *(f"except:{k}" for k in range(1, 5)))


def run(*, name: str, kind: str, source: str, rate: float, num_steps: int):
    config = ml_collections.ConfigDict()
    config.name, config.kind = name, kind
    config.seed = 0
    config.model = {
        "name": "fixup_resnet",
        "dtype": "float32",
        "options": {"width": 8, "stage_sizes": (1, 1, 1), "stem": "small", "head_init": "uniform"},
    }
    config.data = {
        "name": source,
        "train_split": "train",
        "test_split": "test",
        "train_size": ml_collections.config_dict.placeholder(int),
        "image_size": SIZE,
        "channels": 1,
        "mean": (0.0,),
        "std": (1.0,),
        "augment": (),
        "shuffle": "none",
        "shuffle_seed": 1244,  # moves all four blocks of 8; the authors' 1234 moves none of them
        "batch_size": 32,
        "eval_batch_size": 266,  # three batches hold the 797 test images, one the 100 for training
    }
    config.optim = {
        "rate": rate,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "grad_clip": 1.0,  # without it a net from random weights leaves its plateau late or not
        "rules": ((r"(bias|scale)[^/]*$", 0.1),),
    }
    config.num_steps = num_steps
    config.eval_every = max(1, num_steps // 8)
    config.log_every = 10
    config.checkpoint = {"rule": "none", "steps": (), "keep_best": True, "resume_every": 0}
    return config
