"""The paper's transfer from ImageNet to DomainNet: figures 2 to 4 and 7, tables 1 and 2.

Question: what of a network's weights, features and mistakes comes from ImageNet, on photographs,
clip art and quick drawings, and how much of its advantage is left when images are shuffled?

Command: tlx study --config=configs/paper/domainnet.py:real --workdir=runs/real
with real, clipart, quickdraw, sketch, painting or infograph. After a comma what to ask:
real,analyses (the default: two runs of a kind, all questions), real,shuffle (figure 3) or
real,checkpoints (figure 7). The data are the official files in $TLX_DATA_DIR/domainnet/real.

P is trained by the study, unless it is there: ln -s WORKDIR runs/real/runs/p for a run of
configs/paper/imagenet.py. From the last weights of any run: real,analyses,from=WORKDIR (without
figure 7, which needs P's earlier checkpoints).

Cost: 156,250 steps of 32 images a run (104,766 for clipart). By arithmetic, nothing measured:
training is 0.12 EFLOP, evaluation on training and test images at every epoch 0.08: 0.14 hours a
run at 400 TFLOP/s, 2.8 at 20. Runs besides P: analyses 8, shuffle 52, checkpoints 26.

Expected, the paper's own figures (read off figure 2 and 7, exact in table 2): test accuracy P-T
78.4 / 74.2 / 67 % on real / clipart / quickdraw, RI-T 61.5 / 58 / 64 % at rate 0.1 / 8; from
ImageNet's epoch 59 on as good as from its last; no barrier between two P-T, accuracy below 1 %
between two RI-T; distances of two P-T 193 / 178 / 219, of two RI-T 815 / 822 / 777. The relative
drop of figure 3 on real: 42 % whole, 52 % at blocks of 28, 3 % at blocks of 2.

The four blocks of 112 pixels stay where they are under the authors' first seed, 1234: the
permutation is the identity. Theirs are seeds 1234, 1235, 1236; here it is 1235 for all.
"""

import runpy
from pathlib import Path

import ml_collections

from tlx.config import arguments

IMAGENET = runpy.run_path(str(Path(__file__).with_name("imagenet.py")))  # how P is trained

DOMAINS = {  # training images; the larger ones are cut to 50,000 for training and for test
    "real": 120_906,
    "clipart": 33_525,
    "quickdraw": 120_750,
    "sketch": 48_212,
    "painting": 50_416,
    "infograph": 36_023,
}
LARGE_TEST = ("real", "quickdraw")  # more than 50,000 test images
MOST = 50_000
BATCH, EPOCHS, DROPS = 32, 100, (30, 60, 90)
RATES = (0.02 / 8, 0.1 / 8)  # those of batches of 256, for batches of 32
BLOCKS = (1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 112)
QUESTIONS = {"analyses": (), "shuffle": ("sweep",), "checkpoints": ("checkpoints", "sweep")}


def get_config(arg: str = "real") -> ml_collections.ConfigDict:
    domain, asked, start = arguments(arg, DOMAINS, QUESTIONS, ("from=WORKDIR",))
    domain, asked = domain or "real", asked or "analyses"
    config = ml_collections.ConfigDict()
    config.name = f"domainnet_{domain}_{asked}"
    config.title = f"What is transferred from ImageNet to DomainNet's {domain}?"
    config.pretrain = IMAGENET["pretrained"](start.removeprefix("from="))
    config.finetune = target("P-T", domain, rate=RATES[0])
    config.scratch = target("RI-T", domain, rate=RATES[1])
    config.init_head = "random"
    config.questions = QUESTIONS[asked]
    config.replicates = 2 if asked == "analyses" else 1
    config.rates = RATES
    if asked == "shuffle":
        config.axes = {"shuffle": ("pixel", *(f"block:{block}" for block in BLOCKS))}
    if asked == "checkpoints":
        config.axes = {"init_step": (0, *config.pretrain.checkpoint.steps)}
    # the authors' 50 points, and the middle
    config.interpolation = config.permutation = config.checkpoints = {"num_alphas": 51}
    config.plane = {"num_points": 21}
    config.basin = {"noise": (0.005, 0.01, 0.015, 0.02, 0.03), "num_draws": 64}
    # pooled, since a whole feature map of the stem has 200,704 values
    config.similarity = config.similarity_by_step = {"batch_size": 256, "spatial": "pool"}
    config.spectra = {"kind": "reshaped"}
    return config


def target(kind: str, domain: str, rate: float) -> ml_collections.ConfigDict:
    total = min(DOMAINS[domain], MOST)
    data = IMAGENET["image_data"](f"domainnet/{domain}", BATCH)
    data |= {"subset_seed": 2020, "shuffle_seed": 1235}
    data["train_size"] = MOST if DOMAINS[domain] > MOST else None
    data["test_size"] = MOST if domain in LARGE_TEST else None
    steps = [round(epoch * total / BATCH) for epoch in (EPOCHS, 1, *DROPS)]
    config = IMAGENET["run"](kind, rate=rate, num_steps=steps[0], eval_every=steps[1], data=data)
    config.optim.schedule, config.optim.boundaries = "step", tuple(steps[2:])
    config.mixup = 0.7
    return config
