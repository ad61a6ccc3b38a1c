"""The paper's transfer from ImageNet to chest X-rays: CheXpert, five diseases, any of them at once.

Question: what is reused where the target looks nothing like ImageNet?

Command: tlx study --config=configs/paper/chexpert.py --workdir=runs/chexpert
for what is asked between two P-T and two RI-T; configs/paper/chexpert.py:from=WORKDIR starts from
the last weights of a run that is there, as of configs/paper/imagenet.py. The data are
CheXpert-v1.0-small in $TLX_DATA_DIR/chexpert, with its train.csv and valid.csv.

Cost: P-T 39,062 steps of 256 images, RI-T 78,125. By arithmetic, nothing measured: 3 · 8.2 GFLOP
for each of 10 and 20 million images are 0.25 and 0.49 EFLOP, evaluation at every epoch 0.16 and
0.33: 0.9 hours for one of each at 400 TFLOP/s, 17 at 20. Two of each, and P.

Expected, the paper's own figures: mean AUC (read off figure 2) P-T at best 0.787 and 0.734 in the
end, RI-T 0.770 and 0.70, each over-fitting after its best; between the best of two P-T no barrier,
between two RI-T down to 0.53 (figure 4); CKA between two P-T 0.67, 0.82, 0.61, 0.41, 0.16 from
the stem to the last stage (table 1), between P-T and RI-T below 0.005 in all but the last;
distances of two P-T 200, of two RI-T 255 (table 2).

The recipe is the authors': 50,000 training images and as many others for test, which the split
does not keep apart by patient; images with Cardiomegaly or Consolidation twice; grey, equalised,
the longer side 224, padded, blurred. An epoch counts 50,000 images here. Without their best steps
chosen on the test images it would be the last that counts.
"""

import ml_collections

SIZE, BATCH, EPOCH = 224, 256, 50_000
EPOCHS = {"P-T": 200, "RI-T": 400}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    word, equals, start = arg.partition("=")
    if arg and (word != "from" or not equals or not start):
        raise ValueError(f"expected nothing or from=WORKDIR, got {arg!r}")
    config = ml_collections.ConfigDict()
    config.name = "chexpert"
    config.title = "What is transferred from ImageNet to chest X-rays?"
    config.pretrain = pretrain(start)
    config.finetune, config.scratch = target("P-T"), target("RI-T")
    config.init_head = "random"
    config.replicates = 2
    config.num_alphas = 21
    config.plane_points = 21
    config.similarity_batch = 256
    config.similarity_spatial = "pool"
    config.spectra_kind = "reshaped"
    return config


def target(kind: str) -> ml_collections.ConfigDict:
    data = {
        "name": "chexpert",
        "train_split": "train[:50000]+doubled",
        "test_split": "train[50000:100000]",
        "image_size": SIZE,
        "channels": 3,
        "mean": (128 / 255,) * 3,
        "std": (64 / 255,) * 3,
        "fit": ("equalize", f"resize_long:{SIZE}", f"pad:{SIZE}", "blur"),
        "augment": ("affine",),
        "max_bad": 1e-4,
        "batch_size": BATCH,
        "eval_batch_size": 500,
    }
    steps = EPOCHS[kind] * EPOCH // BATCH
    config = run(kind, base_rate=0.02, num_steps=steps, eval_every=EPOCH // BATCH, data=data)
    config.loss = "multilabel"
    return config


def pretrain(start: str) -> ml_collections.ConfigDict:
    """P as configs/paper/imagenet.py trains it, or as the run in `start` left it."""
    steps = [round(epoch * 1_281_167 / 256) for epoch in (90, 5, 30, 60)]
    data = {
        "name": "folder",
        "train_split": "train",
        "test_split": "val",
        "image_size": 224,
        "channels": 3,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "fit": ("resize_short:256", "center_crop:224"),
        "augment": ("resized_crop", "flip"),
        "max_bad": 1e-4,
        "batch_size": 256,
        "eval_batch_size": 500,
    }
    config = run("P", base_rate=0.1, num_steps=steps[0], eval_every=steps[1], data=data)
    config.mixup = 0.7
    if start:
        config.init_from = {"workdir": start, "step": "last", "head": "keep"}
        config.num_steps = 0
    else:
        config.optim.schedule, config.optim.boundaries = "step", tuple(steps[2:])
    return config


def run(kind: str, *, base_rate: float, num_steps: int, eval_every: int, data: dict):
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
        "rate": base_rate,
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
