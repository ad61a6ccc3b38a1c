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
# # One figure of the paper
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/)
# The badge leads to Colab, where *File > Upload notebook* opens this file.
#
# Is it features that are reused, or low-level statistics? Figure 3 of Neyshabur, Sedghi, Zhang
# (2020) cuts images into blocks and shuffles them: what looks like anything is lost, the values of
# the pixels are kept, and what pretraining still brings is owed to these. Here is that figure at a
# small scale, from a study of one question: thirty short trainings, about a minute on two cores.

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
from pathlib import Path

from tlx.data.spec import DataSpec
from tlx.records import query
from tlx.report import figures, summary
from tlx.report.questions import PARTS, QUESTIONS
from tlx.studies import runner
from tlx.studies.axes import Axes
from tlx.studies.spec import StudySpec
from tlx.train.spec import CheckpointSpec, ModelSpec, OptimSpec, RunSpec

# %% [markdown]
# ## The study
#
# P-T is fine-tuned from P, RI-T trained from random weights; each on whole images, on shuffled
# blocks of 4×4 and on shuffled pixels (blocks of 1×1). One permutation is the same for all images,
# of training and of test. What is smaller than in the paper:
#
# | | paper | here |
# |---|---|---|
# | source of P | ImageNet | 4,000 images of MNIST |
# | target | DomainNet's real, clipart, quickdraw | 100 of scikit-learn's digits |
# | net | ResNet-50 | a Fixup ResNet of 19,491 weights |
# | images | 224×224 pixels, blocks of 1 to 112 | 16×16 pixels, blocks of 1 and 4 |
# | fine-tuning | 100 epochs | 200 steps of 32 images |
#
# Here each kind is trained from five seeds, so that differences have intervals.

# %%
net = {"width": 8, "stage_sizes": (1, 1, 1), "stem": "small", "head_init": "uniform"}
digits = DataSpec(
    name="digits", train_size=100, image_size=16, channels=1, mean=(0.305,), std=(0.323,),
    batch_size=32, eval_batch_size=266,
)  # fmt: skip
mnist = dataclasses.replace(digits, name="mnist5k", train_size=None, mean=(0.132,), std=(0.290,))
sgd = OptimSpec(rate=0.2, schedule="cosine", grad_clip=1.0, rules=((r"(bias|scale)[^/]*$", 0.1),))
scratch = RunSpec(
    name="RI-T", kind="RI-T", seed=0, model=ModelSpec(name="fixup_resnet", options=net),
    data=digits, optim=sgd, num_steps=200, eval_every=25,
    checkpoint=CheckpointSpec(keep_best=False),
)  # fmt: skip
study = StudySpec(
    name="figure_3", title="Is it features or low-level statistics?",
    pretrain=dataclasses.replace(
        scratch, name="P", kind="P", data=mnist, optim=dataclasses.replace(sgd, rate=0.1),
        num_steps=1000, eval_every=1000,
    ),
    finetune=dataclasses.replace(scratch, name="P-T", kind="P-T"),
    scratch=scratch,
    replicates=5,
    axes=Axes(shuffle=("block:4", "block:1")),
    questions=("sweep",),
)  # fmt: skip
records = runner.run(study, Path("runs/paper_figure")).records

# %% [markdown]
# ## The figure
#
# Left the accuracy at the end, pale for P-T and solid for RI-T. The number above a pair is the
# relative drop, 100 · (P-T − RI-T) / P-T: how much of P-T's accuracy pretraining brought. Right the
# average accuracy on training images, which says how fast a model learns. Whiskers are 95 %
# intervals over seeds.

# %%
figures.shuffle(records)

# %%
print(PARTS["shuffle"].table(query(records)).text())

# %% [markdown]
# ## What the intervals decide
#
# The sentence claims what the intervals of the differences allow, over seeds and test images, and
# no more; so do the verdicts on what the paper claims.

# %%
answer = summary.answers(records)["shuffle"]
print(answer.sentence)
for check in answer.checks:
    print(f"{check.claim}: {check.verdict}")

# %% [markdown]
# And what the paper found, in its own setting:

# %%
finding = QUESTIONS["shuffle"].finding
print(f"{finding.source}: {finding.text}")
print(finding.table.text())
