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
the longer side 224, padded, blurred. An epoch counts 50,000 images here. The best step is chosen
on the test images, as theirs is.
"""

import runpy
from pathlib import Path

import ml_collections

from tlx.config import arguments

IMAGENET = runpy.run_path(str(Path(__file__).with_name("imagenet.py")))  # how P is trained

BATCH, EPOCH = 256, 50_000
EPOCHS = {"P-T": 200, "RI-T": 400}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    (start,) = arguments(arg, ("from=WORKDIR",))
    config = ml_collections.ConfigDict()
    config.name = "chexpert"
    config.title = "What is transferred from ImageNet to chest X-rays?"
    config.pretrain = IMAGENET["pretrained"](start.removeprefix("from="))
    config.finetune, config.scratch = target("P-T"), target("RI-T")
    config.init_head = "random"
    config.replicates = 2
    config.interpolation = config.permutation = {"num_alphas": 21}
    config.plane = {"num_points": 21}
    config.similarity = config.similarity_by_step = {"batch_size": 256, "spatial": "pool"}
    config.spectra = {"kind": "reshaped"}
    return config


def target(kind: str) -> ml_collections.ConfigDict:
    data = IMAGENET["image_data"]("chexpert", BATCH) | {
        "train_split": "train[:50000]+doubled",
        "test_split": "train[50000:100000]",
        "mean": (128 / 255,) * 3,
        "std": (64 / 255,) * 3,
        "fit": ("equalize", "float", "resize_long:224", "pad:224", "blur"),
        "augment": ("affine",),
    }
    epoch = EPOCH // BATCH
    steps = EPOCHS[kind] * EPOCH // BATCH
    config = IMAGENET["run"](kind, rate=0.02, num_steps=steps, eval_every=epoch, data=data)
    config.loss = "multilabel"
    return config
