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
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/)
# The badge leads to Colab, where *File > Upload notebook* opens this file.
#
# What is transferred when a model is fine-tuned (Neyshabur, Sedghi, Zhang 2020)? A tour through the
# records of a study: models that start from pretrained weights (P-T) against models from random
# ones (RI-T), a question and a figure at a time, each with how to read it. Where the default study
# has been run (`bash launch/local.sh`, five minutes) it shows that one, in seconds; elsewhere it
# first runs a small one, which takes about a minute on two cores. At the end the same analyses run
# on four models in plain JAX.

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
import dataclasses
import itertools
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from tlx.analyses import features, landscape
from tlx.analyses.landscape.permutations import alignment
from tlx.core import metrics, streams
from tlx.data.spec import DataSpec
from tlx.records import query
from tlx.report import figures, summary
from tlx.studies import questions, runner
from tlx.studies.spec import StudySpec
from tlx.train.spec import CheckpointSpec, ModelSpec, OptimSpec, RunSpec

# %% [markdown]
# ## A study
#
# Three kinds of run, and what is asked of them: P learns the source (MNIST), P-T starts from its
# weights and RI-T from random ones to learn the target (a hundred of scikit-learn's digits). The
# net, the data and the recipe are those of `configs/mini.py`; there are two seeds instead of five,
# half the steps of P, and seven of the questions. The default study has one more kind, S-T: it
# starts from random weights with the mean and the spread of each tensor of P.

# %%
options = {"width": 8, "stage_sizes": (1, 1, 1), "stem": "small", "head_init": "uniform"}
digits = DataSpec(
    name="digits", train_size=100, image_size=16, channels=1, mean=(0.305,), std=(0.323,),
    batch_size=32, eval_batch_size=266,
)  # fmt: skip
mnist = dataclasses.replace(digits, name="mnist5k", train_size=None, mean=(0.132,), std=(0.290,))
sgd = OptimSpec(rate=0.2, schedule="cosine", grad_clip=1.0, rules=((r"(bias|scale)[^/]*$", 0.1),))
scratch = RunSpec(
    name="RI-T", kind="RI-T", seed=0, model=ModelSpec(name="fixup_resnet", options=options),
    data=digits, optim=sgd, num_steps=200, eval_every=25,
    checkpoint=CheckpointSpec(steps=(16, 64), keep_best=False),
)  # fmt: skip
finetune = dataclasses.replace(scratch, name="P-T", kind="P-T")
pretrain = dataclasses.replace(
    scratch, name="P", kind="P", data=mnist, optim=dataclasses.replace(sgd, rate=0.1),
    num_steps=500, eval_every=500,
)  # fmt: skip
small = StudySpec(
    name="first_look", title="A first look", replicates=2,
    pretrain=pretrain, finetune=finetune, scratch=scratch,
    questions=("interpolation", "basin", "similarity", "rewinding", "criticality", "distances",
               "mistakes"),
    interpolation=questions.Interpolation(num_alphas=11),
    basin=questions.Basin(noise=(0.02, 0.08), num_draws=4),
    similarity=questions.Similarity(num_resamples=0),
    criticality=questions.Criticality(num_alphas=3, sigmas=(0.02, 0.1), num_draws=1),
)  # fmt: skip

# %%
STUDY = Path("../runs/mini")  # the default study
if not (STUDY / "report.html").exists():
    STUDY = Path("runs/first_look")
    print(f"The default study is not there; a small one is run into {STUDY}.")
    runner.run(small, STUDY)
RECORDS = STUDY / "records"

# %% [markdown]
# ## What a record is
#
# One answer to one question: a JSON file that says of what it is, and a file of arrays, which numpy
# alone can read. `query` finds records by their question and inputs; a result is read by its name.

# %%
record = query(RECORDS, "interpolation", pair="RI-T / RI-T")[0]
print(record.inputs)
print("accuracy on the line:", np.round(record.accuracy, 2))
print(f"it falls {100 * record.accuracy_barrier:.0f} points below the chord between its ends")

# %% [markdown]
# The key numbers. Brackets are 95 % intervals; the last column says whether the paper's order holds
# here as far as they tell.

# %%
print(summary.headline(RECORDS).text())
answers = summary.answers(RECORDS)

# %% [markdown]
# ## How do they learn?
#
# A line a kind of run: the mean over its seeds, with its interval as a band. P-T is expected to
# rise faster, and perhaps to end higher; both start near chance, since their heads are new. Two
# seeds tell little, and their bands are wide.

# %%
print(answers["training"].sentence)
figures.training(RECORDS)

# %% [markdown]
# ## Is there a barrier between two models?
#
# Every point of a line is a model: (1 − α) times the weights of the first and α times those of the
# second. Where the accuracy stays up, the two ends lie in one valley of the loss; where it falls to
# chance, something stands between them.

# %%
print(answers["interpolation"].sentence)
figures.interpolation(RECORDS)

# %% [markdown]
# ## Do they share a basin?
#
# The verdict is on the line; the panels leave it. δ is where noise on the weights, and going on
# beyond the ends, both cost more than the error varies within (2ε): the edge of the basin. Where
# the line has a barrier, no δ is to be found.

# %%
print(answers["landscape"].sentence)
figures.landscape(RECORDS)

# %% [markdown]
# ## Do they compute the same features?
#
# Debiased CKA of a layer of one model with one of another: 1 is the same up to rotation and scale,
# 0 is unrelated. First the same layer in both, from the input to the logits; then all with all.

# %%
print(answers["similarity"].sentence)
figures.similarity(RECORDS)

# %% [markdown]
# ## Which modules carry it?
#
# One module goes back to its weights before training, the others stay: a tall bar is a module that
# cannot go back. For a P-T most can, since its start was the pretrained weights.

# %%
print(answers["modules"].sentence)
figures.rewinding(RECORDS)

# %% [markdown]
# Criticality asks how far back, and in what noise: in each small map the module is at its start on
# the left and trained on the right, with more noise on its weights above. Dark is error; the line
# parts what is harmless. μ is small for a module that can go all the way back in much noise.

# %%
figures.criticality(RECORDS)

# %% [markdown]
# ## How far apart are they?
#
# The distance of the weights, module by module, and relative to their norms, where two unrelated
# random models would be √2 apart.

# %%
print(answers["distances"].sentence)
figures.distances(RECORDS)

# %% [markdown]
# ## Do they make the same mistakes?
#
# Dark is what both get wrong; the mark is what they would if each erred by itself. Kappa is 0 for
# independent mistakes and 1 for the same ones.

# %%
print(answers["mistakes"].sentence)
figures.mistakes(RECORDS)

# %% [markdown]
# Each of these is a figure of the page, `report.html` in the study's folder, which also says how it
# was computed and what the paper found. The page has more where more was asked:

# %%
print(", ".join(figures.NAMES))

# %% [markdown]
# ## The same analyses on models of your own
#
# They take any function `(params, inputs) -> outputs` and any tree of arrays: here a network of two
# hidden layers in plain JAX. The source is to tell the digits 0 to 4 apart, the target 5 to 9. One
# pair starts from the same pretrained weights, the other from two random initialisations; each
# model sees the target's images in an order of its own.

# %%
WIDTHS = (64, 64, 64, 5)


def make_params(seed):
    """He initialisation."""
    keys = jax.random.split(jax.random.key(seed), len(WIDTHS) - 1)
    shapes = zip(keys, itertools.pairwise(WIDTHS), strict=True)
    return [
        {"kernel": jnp.sqrt(2 / n) * jax.random.normal(key, (n, m)), "bias": jnp.zeros(m)}
        for key, (n, m) in shapes
    ]


def layers(params, inputs):
    """The output of every layer by name."""
    found = {}
    for i, layer in enumerate(params):
        inputs = inputs @ layer["kernel"] + layer["bias"][None]
        inputs = inputs if i == len(params) - 1 else jax.nn.relu(inputs)
        found[f"layer {i + 1}"] = inputs
    return found


def apply_fn(params, inputs):
    """Logits [B, 5] of images [B, 64]."""
    return layers(params, inputs)[f"layer {len(params)}"]


@jax.jit
def step(params, images, labels):
    """One step of gradient descent on the mean cross entropy."""

    def loss(params):
        log_likelihood = jax.nn.log_softmax(apply_fn(params, images))
        return -jnp.take_along_axis(log_likelihood, labels[:, None], axis=1).mean()

    return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params))


def train(params, images, labels, seed):
    """The parameters after 600 steps on batches of 64, drawn by the seed."""
    random = np.random.default_rng(seed)
    for _ in range(600):
        chosen = random.choice(len(images), 64, replace=False)
        params = step(params, images[chosen], labels[chosen])
    return params


# %%
found = load_digits()
images, labels = (found.data / 16).astype(np.float32), found.target.astype(np.int32)
is_source = labels < 5
target = images[~is_source][:600], labels[~is_source][:600] - 5
stream = streams.from_arrays(images[~is_source][600:], labels[~is_source][600:] - 5, batch_size=128)

pretrained = train(make_params(0), images[is_source], labels[is_source], seed=0)
start = [*pretrained[:-1], jax.tree.map(jnp.zeros_like, pretrained[-1])]
pairs = {
    "two P-T": [train(start, *target, seed=seed) for seed in (1, 2)],
    "two RI-T": [train(make_params(seed), *target, seed=seed) for seed in (1, 2)],
}

# %%
for name, (a, b) in pairs.items():
    alphas = jnp.linspace(0, 1, 21)
    line = landscape.line(apply_fn, metrics.classification(), a, b, stream, alphas=alphas)
    barrier = landscape.barrier(line.alphas, line.results["loss"], kind="chord")
    ends, middle = line.results["accuracy"][jnp.array([0, -1])].mean(), line.results["accuracy"][10]
    print(f"{name}: barrier {barrier.height:.3f} nats, accuracy {ends:.1%} at the ends and "
          f"{middle:.1%} halfway")  # fmt: skip

# %% [markdown]
# Hidden units can change places without a change in what a network computes.
# `alignment.symmetry` finds which by tracing the model, `weight_matching` the order in which the
# second model is closest to the first; `same_basin` gives the verdict, with intervals over images.

# %%
a, b = pairs["two RI-T"]
symmetry = alignment.symmetry(apply_fn, a, images[:8])
matching = landscape.weight_matching(symmetry, a, b)
in_order = landscape.apply_permutation(symmetry, matching.permutations, b)
judge = partial(
    landscape.same_basin, apply_fn, stream=stream, tolerances={"error": 0.02, "loss": 0.1},
    deltas=[0.5, 1.0, 2.0], key=jax.random.key(0),
)  # fmt: skip
for name, models in {**pairs, "two RI-T, units in one order": (a, in_order)}.items():
    found = judge(models=list(models))
    height, low, high = (100 * x["error"][0] for x in (found.barriers, found.low, found.high))
    print(f"{name}: in one basin? {found.verdict}. The error rises {height:.1f} "
          f"[{low:.1f}, {high:.1f}] points above the chord")  # fmt: skip

# %% [markdown]
# Results of the similarity analyses are drawn as they come, too.

# %%
compare = partial(
    features.cka_matrix, layers, feature_fn_y=layers, stream=stream,
    num_resamples=200, key=jax.random.key(0),
)  # fmt: skip
figures.same_layers({name: compare(a, params_y=b) for name, (a, b) in pairs.items()})

# %% [markdown]
# `your_models` does this with models of Flax, Equinox and Haiku, `two_checkpoints` with files of
# weights, and `paper_figure` makes one figure of the paper.
