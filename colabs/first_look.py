# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A first look at tlx
#
# What is transferred when a model is fine-tuned? One answer lies on the straight line between two
# models in parameter space: fine-tuned models (P-T) share a basin of the loss, models trained
# from random weights (RI-T) do not (Neyshabur, Sedghi, Zhang 2020).
#
# This notebook opens the records of a study and draws them, then asks the same question of two
# pairs of small models that it trains itself, in seconds and with nothing of tlx but its
# analyses.

# %% [markdown]
# ## Install
#
# `SOURCE` is where tlx comes from: the folder of a clone, or its address as pip reads it
# (`git+https://…`). Nothing is installed where tlx is there already.

# %%
import importlib.metadata
import subprocess
import sys

SOURCE = ".."
try:
    importlib.metadata.version("tlx-transfer")
except importlib.metadata.PackageNotFoundError:
    wanted = f"tlx-transfer[demo] @ {SOURCE}" if "://" in SOURCE else f"{SOURCE}[demo]"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", wanted], check=True)

# %%
# %matplotlib inline
import itertools
import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import tlx
from tlx.analyses import landscape
from tlx.analyses.landscape.permutations import alignment
from tlx.core import metrics, streams
from tlx.records import incomplete, make_record, query, results, save
from tlx.report import figures

# %% [markdown]
# ## A study's records
#
# `bash launch/local.sh` leaves its records in `runs/mini/records`: a JSON file and an array file
# each, which numpy alone can read. Where there are none, **made-up ones** stand in, so that the
# cells below run: they show what a figure looks like and say nothing about any model.

# %%
RECORDS = Path("../runs/mini/records")


def synthetic_records(root):
    """Saves made-up lines between models: numbers from a formula, not from any experiment."""
    alphas = np.linspace(0.0, 1.0, 11)
    hill = 4.0 * alphas * (1.0 - alphas)
    for kind, height in (("P-T", 0.05), ("RI-T", 1.5)):
        save(
            root,
            make_record(
                "interpolation",
                inputs={"a": f"{kind} 0", "b": f"{kind} 1", "kind_a": kind, "kind_b": kind},
                results=incomplete(
                    results.Interpolation,
                    alphas=alphas,
                    loss=0.2 + height * hill,
                    accuracy=0.95 * np.exp(-0.9 * height * hill),
                    num_examples=1000,
                ),
                meta={"synthetic": True},
            ),
        )
    return root


if not RECORDS.is_dir():
    RECORDS = synthetic_records(Path(tempfile.mkdtemp()))
    print("No study here: the figure below shows MADE-UP numbers, not a result.")

for record in query(RECORDS, "interpolation"):
    worst = float(np.min(record.accuracy))
    print(f"{record.inputs['a']} to {record.inputs['b']}: lowest accuracy {worst:.1%}")

# %%
figures.interpolation(RECORDS)

# %% [markdown]
# ## Two pairs of small models
#
# The analyses take any function `(params, inputs) -> outputs` and any tree of arrays. Here that
# is a network of two hidden layers in plain JAX. The source task is to tell the digits 0 to 4
# apart, the target task 5 to 9. One pair starts from the same pretrained weights, with a new head
# of zeros; the other pair starts from two random initialisations. Each model sees the target
# images in an order of its own.

# %%
WIDTHS = (64, 64, 64, 5)


def make_params(key):
    """He initialisation."""
    keys = jax.random.split(key, len(WIDTHS) - 1)
    shapes = itertools.pairwise(WIDTHS)
    return [
        {"kernel": jnp.sqrt(2.0 / n) * jax.random.normal(k, (n, m)), "bias": jnp.zeros(m)}
        for k, (n, m) in zip(keys, shapes, strict=True)
    ]


def apply_fn(params, inputs):
    """Logits [B, 5] of images [B, 64]."""
    for layer in params[:-1]:
        inputs = jax.nn.relu(inputs @ layer["kernel"] + layer["bias"][None])
    return inputs @ params[-1]["kernel"] + params[-1]["bias"][None]


@jax.jit
def step(params, images, labels):
    """One step of gradient descent on the mean cross entropy."""

    def loss(params):
        log_likelihood = jax.nn.log_softmax(apply_fn(params, images))
        return -jnp.take_along_axis(log_likelihood, labels[:, None], axis=1).mean()

    return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params))


def train(params, images, labels, *, seed, num_steps=600):
    """The parameters after as many steps on batches of 64, drawn by the seed."""
    random = np.random.default_rng(seed)
    for _ in range(num_steps):
        chosen = random.choice(len(images), 64, replace=False)
        params = step(params, images[chosen], labels[chosen])
    return params


# %%
digits = load_digits()
images, labels = (digits.data / 16.0).astype(np.float32), digits.target.astype(np.int32)
is_source = labels < 5
target_images, target_labels = images[~is_source], labels[~is_source] - 5
train_images, train_labels = target_images[:600], target_labels[:600]
test_stream = streams.from_arrays(target_images[600:], target_labels[600:], batch_size=128)

key = jax.random.key(0)
pretrained = train(make_params(key), images[is_source], labels[is_source], seed=0)
start = [*pretrained[:-1], jax.tree.map(jnp.zeros_like, pretrained[-1])]
finetune = partial(train, images=train_images, labels=train_labels)
pairs = {
    "P-T": [finetune(start, seed=seed) for seed in (1, 2)],
    "RI-T": [finetune(make_params(jax.random.key(seed)), seed=seed) for seed in (1, 2)],
}

# %% [markdown]
# `landscape.line` evaluates a metric at many points between two models in one pass over the
# data; `landscape.barrier` says how far the loss rises above the chord between its ends.

# %%
alphas = np.linspace(0.0, 1.0, 21, dtype=np.float32)
metric = metrics.classification()
measured = []
for kind, (params_a, params_b) in pairs.items():
    line = landscape.line(apply_fn, metric, params_a, params_b, test_stream, alphas=alphas)
    barrier = landscape.barrier(line.alphas, line.results["loss"], kind="chord")
    ends, middle = line.results["accuracy"][jnp.array([0, -1])].mean(), line.results["accuracy"][10]
    print(
        f"two {kind}: barrier {barrier.height:.3f} nats at alpha {barrier.alpha:.2f}, "
        f"accuracy {ends:.1%} at the ends and {middle:.1%} halfway"
    )
    measured.append(
        make_record(
            "interpolation",
            inputs={"a": f"{kind} 0", "b": f"{kind} 1", "kind_a": kind, "kind_b": kind},
            results=incomplete(
                results.Interpolation,
                alphas=alphas,
                loss=line.results["loss"],
                accuracy=line.results["accuracy"],
                num_examples=line.results["count"][0],
                barrier_chord=barrier.height,
            ),
        )
    )

# %%
figures.interpolation(measured)

# %% [markdown]
# The fine-tuned pair is joined by a line without a barrier; the pair from two random
# initialisations is parted by one, although all four models solve the task. A record in memory is
# drawn like one from a file: `tlx.records.save(root, record)` would keep it.

# %% [markdown]
# ## Is it only the order of the hidden units?
#
# The hidden units of a network can change places without a change in what it computes.
# `alignment.symmetry` finds which can by tracing the model, `landscape.weight_matching` the order
# in which the second model's weights are closest to the first's. `landscape.same_basin` says
# whether two models share a basin, with intervals over the test images.

# %%
params_a, params_b = pairs["RI-T"]
symmetry = alignment.symmetry(apply_fn, params_a, images[:8])
matching = landscape.weight_matching(symmetry, params_a, params_b)
permuted = landscape.apply_permutation(symmetry, matching.permutations, params_b)
print(f"distance {matching.distance_before:.1f}, and {matching.distance_after:.1f} after matching")

judge = partial(
    landscape.same_basin,
    apply_fn,
    stream=test_stream,
    tolerances={"error": 0.02, "loss": 0.1},
    deltas=[0.5, 1.0, 2.0],
    key=jax.random.key(0),
)
for name, models in {**pairs, "RI-T, units matched": (params_a, permuted)}.items():
    answer = judge(models=list(models))
    height, low, high = (getattr(answer, x)["error"][0] for x in ("barriers", "low", "high"))
    print(
        f"two {name}: in one basin? {answer.verdict}. The error rises {100 * height:.1f} points "
        f"above the chord (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    )

# %% [markdown]
# ## Do they compute the same features?
#
# `features.cka_matrix` compares all layers of two models in one pass: the debiased CKA, which
# is 0 on average for unrelated features, with a bootstrap interval over the test images. Each
# figure is one call on what came out.


# %%
def layers(params, inputs):
    """The output of every layer by name."""
    layers = {}
    for i, layer in enumerate(params[:-1]):
        inputs = jax.nn.relu(inputs @ layer["kernel"] + layer["bias"][None])
        layers[f"hidden {i + 1}"] = inputs
    layers["logits"] = inputs @ params[-1]["kernel"] + params[-1]["bias"][None]
    return layers


compare = partial(
    tlx.features.cka_matrix,
    feature_fn_x=layers,
    feature_fn_y=layers,
    stream=test_stream,
    num_resamples=200,
    key=jax.random.key(0),
)
found = {f"two {kind}": compare(params_x=a, params_y=b) for kind, (a, b) in pairs.items()}
for name, result in found.items():
    ends = ", ".join(
        f"{layer} {result.values[i, i]:.2f} [{result.low[i, i]:.2f}, {result.high[i, i]:.2f}]"
        for i, layer in enumerate(result.layers_x)
    )
    print(f"{name}, CKA of the same layer: {ends}")

# %%
figures.same_layers(found)

# %%
figures.heat_map(found["two RI-T"], "Two RI-T: all layers with all")

# %% [markdown]
# CKA is one measure of many: `tlx.features.similarity.measures.MEASURES` has the others with what
# each is blind to. `tlx.features.evidence` says of any of them whether a value is more than chance,
# and how far other images might move it.

# %%
hidden = [layers(params, target_images[600:])["hidden 1"] for params in pairs["RI-T"]]
for measure in ("procrustes", "rsa", "mutual_knn"):
    seen = tlx.features.evidence(measure, *hidden, key=jax.random.key(0))
    print(
        f"{measure}: {seen.value:.2f} [{seen.low:.2f}, {seen.high:.2f}], by chance "
        f"{seen.null_mean:.2f}, p {seen.p_value:.3f}"
    )
