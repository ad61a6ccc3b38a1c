"""What is reused: shuffled images, learning speed, data, mistakes, and where to start from.

Question: is it features or low-level statistics that help? How much faster does P-T learn, how
does its advantage depend on the amount of data and on the domain, which mistakes are common, and
from which checkpoint of P can one start as well as from the last?

Command: tlx study --config=configs/reuse.py --workdir=runs/reuse
From Fashion-MNIST to MNIST instead: --config=configs/reuse.py:fashion, with Debian's package
dataset-fashion-mnist (apt-get install dataset-fashion-mnist).

Cost: six minutes on two CPU cores (10 minutes of processor time), of Fashion-MNIST more: 169 and
181 runs of a net of 19,635 weights, 320 steps of 32 images each and 1,000 of P; 54 MB on disk.
Three seeds and two learning rates a setting, of which the better on 200 held-out images.

Expected (seen on two cores, jax 0.10.2; intervals of 95 % over seeds and 797 or 1,000 test images):
MNIST to digits, 200 training images: P-T ends at 94.8 % and RI-T at 90.8 %, 4.0 [−1.0, 9.0] points
apart, which three seeds leave open: with other roundings (sums split between two threads) it was
5.0 [1.6, 8.4]. P-T learns faster at every block size; with 8x8 blocks the difference is 1.8
[−0.8, 4.4] points, with finer ones nearer to 0 or below. From step 500 of P's 1,000 on (its rate
drops there for the first time) no checkpoint is measurably worse to start from than the last; P
enters the basin of its last one between steps 32 and 128. Kappa of mistakes 0.72 [0.60, 0.81] for
two P-T, 0.47 [0.36, 0.57] for two RI-T. What follows is of one process with two threads.
Fashion-MNIST to MNIST: P-T learns faster at every block size, but ends where RI-T does (84.8 and
85.5 %), measurably below with single pixels permuted; on Fashion-MNIST itself it ends
9.1 [8.2, 9.9] points higher. No checkpoint of P, not even step 0, is measurably worse than the
last, though up to step 128 training from them is slower. Kappa 0.78
[0.72, 0.83] against 0.55 [0.48, 0.62].
"""

import ml_collections

from tlx.config import arguments

SIZE = 16
CHANNELS = 3  # of grey images, so that all values can be permuted across channels too


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    (word,) = arguments(arg, ("fashion",))
    return fashion_to_mnist() if word else mnist_to_digits()


def mnist_to_digits() -> ml_collections.ConfigDict:
    config = study(source="mnist5k", target="digits", num_images=4000)
    # the source itself: new test images, but P's own for training
    config.axes.target = ("mnist5k",)
    config.name, config.title = "reuse", "What is reused from MNIST in digits?"
    return config


def fashion_to_mnist() -> ml_collections.ConfigDict:
    config = study(source="fashion_mnist", target="mnist5k", num_images=10_000)
    config.axes.target = ("digits", "fashion_mnist")
    config.name, config.title = "reuse_fashion", "What is reused from Fashion-MNIST in MNIST?"
    return config


def study(source: str, target: str, num_images: int) -> ml_collections.ConfigDict:
    drops = (500, 750)
    config = ml_collections.ConfigDict()
    config.pretrain = pretrain(source, num_images, drops)
    config.finetune = run("P-T", target, rate=0.1)
    config.scratch = run("RI-T", target, rate=0.2)
    config.replicates = 3
    config.rates = (0.1, 0.2)
    config.axes = {
        "shuffle": ("pixel", "channel_block:4", *(f"block:{b}" for b in (1, 2, 4, 8))),
        "train_size": (50, 500),
        "init_step": (0, 8, 32, 128, *around(drops)),
    }
    config.questions = ("sweep", "checkpoints", "transferability", "domains", "mistakes")
    config.checkpoints = {"num_alphas": 11, "tolerance": 0.02}
    return config


def pretrain(source: str, num_images: int, drops: tuple[int, ...]) -> ml_collections.ConfigDict:
    config = run("P", source, rate=0.1, num_steps=1000)
    config.data.train_size, config.data.valid_size = num_images, 0
    config.optim.schedule, config.optim.boundaries = "step", drops
    config.checkpoint.rule, config.checkpoint.steps = "log2", around(drops)
    config.eval_every = 250
    return config


def around(drops: tuple[int, ...]) -> tuple[int, ...]:
    """The last step at a rate and one soon after it has dropped."""
    return tuple(step for drop in drops for step in (drop, drop + 32))


def run(kind: str, source: str, *, rate: float, num_steps: int = 320):
    config = ml_collections.ConfigDict()
    config.name = config.kind = kind
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
        "train_size": 200,
        "valid_size": 200,
        "image_size": SIZE,
        "channels": CHANNELS,
        "mean": (0.2,) * CHANNELS,
        "std": (0.32,) * CHANNELS,
        "augment": (),
        "shuffle": "none",
        "shuffle_seed": 1244,
        "batch_size": 32,
        "eval_batch_size": 512,
    }
    config.optim = {
        "rate": rate,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "boundaries": (),
        "grad_clip": 1.0,  # without it a net from random weights leaves its plateau late or not
        "rules": ((r"(bias|scale)[^/]*$", 0.1),),
    }
    config.num_steps = num_steps
    config.eval_every = max(1, num_steps // 8)
    config.log_every = 0
    config.checkpoint = {"rule": "none", "steps": (), "keep_best": False, "resume_every": 0}
    return config
