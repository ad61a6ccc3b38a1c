"""The paper's source: a Fixup ResNet-50 on ImageNet, and its checkpoints to start from.

Question: what does a network learn on ImageNet, epoch by epoch, that other data can use?

Command: tlx train --config=configs/paper/imagenet.py --workdir=runs/imagenet
reads folders by class, $TLX_DATA_DIR/folder/train/n01440764/*.JPEG and the same of val, or
below another folder: configs/paper/imagenet.py:FOLDER, or what tensorflow-datasets has prepared:
configs/paper/imagenet.py:tfds. The other configs of this folder start from this run.

Cost: 450,000 steps of 256 images. By arithmetic, nothing measured: 3 · 8.2 GFLOP for each of 115
million images are 2.8 EFLOP, and evaluation at every fifth epoch of training and test images adds
0.2: 2.1 hours at 400 TFLOP/s, 42 at 20. 12 checkpoints of 102 MB.

Expected: the paper's figure 7 (shaded area, read off): top-1 about 50 % at epoch 10, 56 % at 29
and 30, 68 % at 31, 71 % at 59 and 60, 75 % from 61 on. The authors' own recipe is not published;
this is that of Fixup's authors, whose drops after epochs 30 and 60 agree with the figure.
"""

import ml_collections

NUM_IMAGES, BATCH = 1_281_167, 256
EPOCHS = 90
DROPS = (30, 60)
KEPT_EPOCHS = (1, 2, 5, 10, 29, 30, 31, 59, 60, 61)  # besides the first and the last


def steps(epochs: float) -> int:
    """The number of steps in so many epochs, rounded; batches run over the ends of epochs."""
    return round(epochs * NUM_IMAGES / BATCH)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    data = image_data("folder", BATCH) | {"test_split": "val"}
    if arg == "tfds":
        data |= {"name": "tfds/imagenet2012", "test_split": "validation"}
    elif arg:
        data["folder"] = arg
    config = run("P", rate=0.1, num_steps=steps(EPOCHS), eval_every=steps(5), data=data)
    config.optim.schedule = "step"
    config.optim.boundaries = tuple(steps(epoch) for epoch in DROPS)
    config.checkpoint.steps = tuple(steps(epoch) for epoch in KEPT_EPOCHS)
    config.mixup = 0.7
    return config


def pretrained(workdir: str) -> ml_collections.ConfigDict:
    """P for a study: trained as above, or as the run in `workdir` left it, if there is one."""
    config = get_config()
    if workdir:
        config.init_from = {"workdir": workdir, "step": "last", "head": "keep"}
        config.num_steps = 0
        config.optim.schedule, config.optim.boundaries = "constant", ()
        config.checkpoint.steps = ()
    return config


def image_data(name: str, batch_size: int) -> dict:
    """Photographs as most networks see them: torchvision's operations, 224 pixels a side."""
    return {
        "name": name,
        "train_split": "train",
        "test_split": "test",
        "image_size": 224,
        "channels": 3,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "fit": ("resize_short:256", "center_crop:224"),
        "augment": ("resized_crop", "flip"),
        "max_bad": 1e-4,
        "batch_size": batch_size,
        "eval_batch_size": 500,
    }


def run(kind: str, *, rate: float, num_steps: int, eval_every: int, data: dict):
    config = ml_collections.ConfigDict()
    config.name = config.kind = kind
    config.seed = 0
    # no batch statistics, and a random head where the original recipe has zeros: the paper's "nzfc"
    config.model = {
        "name": "fixup_resnet50",
        "dtype": "float32",
        "options": {"head_init": "uniform"},
    }
    config.data = data
    config.optim = {
        "rate": rate,
        "momentum": 0.9,
        "weight_decay": 1e-4,  # of all leaves, as the authors' code does
        "schedule": "constant",
        "boundaries": (),
        "rules": ((r"(bias|scale)[^/]*$", 0.1),),  # the head's bias too
    }
    config.num_steps = num_steps
    config.eval_every = eval_every
    config.log_every = 100
    config.mixup = 0.0
    config.checkpoint = {"rule": "none", "steps": (), "keep_best": True, "resume_every": 5000}
    return config
