"""Transfer from CIFAR-10 to photographs, cartoons and sketches of the same seven things.

Question: which of the paper's findings hold from photographs to photographs, to cartoons and to
sketches? P-T, S-T and RI-T from five seeds each, on whole images and with 8x8 blocks and single
pixels shuffled, P-T from earlier checkpoints of P too, and every question of them.

Command: tlx study --config=configs/pacs.py:photo --workdir=runs/photo
then the same with cartoon and sketch (or art_painting), each in a workdir of its own. They need not
train P again: first mkdir -p runs/cartoon/runs, and ln -s ../../photo/runs/p runs/cartoon/runs/p.
Side by side: tlx report --workdir runs/photo runs/cartoon runs/sketch.
One run alone: tlx train with configs/pacs.py:photo,scratch, :photo,pretrain or
:photo,finetune=WORKDIR.

Images are folders below data/ in the folder that the command is given in, as PNG or JPEG of any
size: data/cifar10/train/CLASS/, data/cifar10/test/CLASS/, and the same in data/pacs/photo,
data/pacs/cartoon and data/pacs/sketch. CIFAR-10 is at www.cs.toronto.edu/~kriz/cifar.html (here
the first 2,400 training and 500 test images of each class), PACS (D. Li et al., Deeper, Broader and
Artier Domain Generalization, 2017) at huggingface.co/datasets/flwrlabs/pacs (here 70 % of each
domain for training, of which 1,100 images are used). A source of one's own is another folder:
--config.pretrain.data.folder=data/mine.

Cost: half an hour a domain on two CPU cores where P is there (29 and 32 minutes for cartoon and
sketch, 55 of processor time): 78 runs of a net of 77,109 weights, 900 steps of 32 images each, and
what is asked of them; 125 MB on disk. P itself, 7,500 steps, takes four minutes more, and where in
its training it enters the basin of its end another seven of one core.

Expected (seen on two cores, jax 0.10.2; 501, 703 and 1,219 test images; 95 % intervals over runs):
P has 63.1 % on CIFAR-10. On photo, cartoon and sketch P-T ends at 71.4 [70.6, 72.2], 70.6 [69.3,
71.9] and 72.5 [71.5, 73.6] %, S-T at 63 [60, 66], 67.7 [66.3, 69.1] and 67 [64, 70], RI-T at 58.7
[56.7, 60.6], 66.5 [64.8, 68.1] and 57 [54, 60]; with single pixels shuffled at 56.8, 55.9 and 43.7
%, 59.6, 58.0 and 47.6, and 56.9, 55.8 and 37. Between two P-T the accuracy falls 0.1 [-0.2, 0.4],
1 [-1, 3] and 1.4 [0.4, 2.5] points, between two RI-T 46 [43, 49], 47 [40, 55] and 55 [53, 57]. All
of it, with figures: docs/results.md.
"""

import ml_collections

from tlx.config import arguments

SIZE = 32
DOMAINS = {  # mean and standard deviation of their training images, red, green, blue
    "photo": ((0.504, 0.471, 0.422), (0.265, 0.256, 0.271)),
    "cartoon": ((0.799, 0.782, 0.739), (0.252, 0.258, 0.301)),
    "sketch": ((0.951, 0.951, 0.951), (0.119, 0.119, 0.119)),
    "art_painting": ((0.550, 0.513, 0.465), (0.258, 0.252, 0.265)),
}
DROPS = (3000, 6000)  # of P's 7,500 steps, ten epochs of 24,000 images


def get_config(arg: str = "photo") -> ml_collections.ConfigDict:
    domain, part = arguments(arg, DOMAINS, ("pretrain", "finetune=WORKDIR", "scratch"))
    config = study(domain or "photo")
    part, _, workdir = part.partition("=")
    if workdir:
        config[part].init_from = {"workdir": workdir, "step": "last", "head": "random"}
    return config[part] if part else config


def study(domain: str) -> ml_collections.ConfigDict:
    pretrain = run("P", "cifar10", num_steps=7500)
    pretrain.optim.schedule, pretrain.optim.boundaries = "step", DROPS
    pretrain.checkpoint.steps = (200, 750, *DROPS)
    finetune, scratch = (run(kind, f"pacs/{domain}", num_steps=900) for kind in ("P-T", "RI-T"))
    for target in (finetune, scratch):
        target.data.mean, target.data.std = DOMAINS[domain]
        target.data.train_size = 1100  # of every domain as many
        target.checkpoint.steps = (30, 150)
    config = ml_collections.ConfigDict()
    config.name = f"pacs_{domain}"
    config.title = f"What is transferred from CIFAR-10 to PACS's {domain}?"
    config.pretrain, config.finetune, config.scratch = pretrain, finetune, scratch
    config.init_head = "random"
    config.arms = ("S-T",)
    config.replicates = 5
    config.axes = {"shuffle": ("block:1", "block:8"), "init_step": (200, 750, DROPS[1])}
    config.shuffle_by_seed = True
    config.forks = (0, 30, 150)
    for question in ("interpolation", "checkpoint_interpolation", "permutation", "instability"):
        config[question] = {"num_alphas": 11}
    config.similarity = {"num_resamples": 0}  # of five runs the interval is one over runs
    config.plane = {"num_points": 7}
    config.basin = {"noise": (0.01, 0.02, 0.04), "num_draws": 8, "tolerance": 0.02}
    config.criticality = {
        "num_alphas": 5,
        "sigmas": (0.01, 0.02, 0.05, 0.1),
        "num_draws": 1,
        "tolerance": 0.02,
    }
    return config


def run(kind: str, folder: str, *, num_steps: int) -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.name = config.kind = kind
    config.seed = 0
    config.model = {
        "name": "fixup_resnet",
        "dtype": "float32",
        "options": {
            "width": 8,
            "stage_sizes": (1, 1, 1, 1),
            "stem": "small",
            "head_init": "uniform",
        },
    }
    config.data = {
        "name": "folder",
        "folder": f"data/{folder}",
        "train_split": "train",
        "test_split": "test",
        "image_size": SIZE,
        "channels": 3,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "augment": ("crop", "flip"),
        "batch_size": 32,
        "eval_batch_size": 500,
    }
    config.optim = {
        "rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "grad_clip": 1.0,
        "rules": ((r"(bias|scale)[^/]*$", 0.1),),
    }
    config.num_steps = num_steps
    config.eval_every = num_steps // 6
    config.log_every = 50
    config.checkpoint = {"rule": "none", "steps": (), "keep_best": True, "resume_every": 0}
    return config
