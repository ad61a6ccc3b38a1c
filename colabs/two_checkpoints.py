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
# # What two checkpoints share
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/)
# The badge leads to Colab, where *File > Upload notebook* opens this file.
#
# An audit of two files of weights in plain words: were they made from each other, which modules
# differ, where most, and how? Here of torchvision's two MobileNetV2, whose names differ in a number
# only; any two files of one architecture will do. Weights alone are read without executing
# anything, and take some twenty seconds after a download of 28 MB. With photographs whose classes
# you know, it also says whether both lie in one basin, whether they may be averaged, and whether
# they err alike; that takes minutes.

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
import hashlib
import os
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tlx.audit import page, run

# %% [markdown]
# ## Two files
#
# A name that `tlx.models` has, and two files as torchvision distributes them: its weights
# IMAGENET1K_V1 and IMAGENET1K_V2. They are looked for where torch keeps them.

# %%
MODEL = "mobilenet_v2"
FILES = "mobilenet_v2-b0353104.pth", "mobilenet_v2-7ebf99e0.pth"  # 14 MB each
# MODEL = "resnet50"
# FILES = "resnet50-0676ba61.pth", "resnet50-11ad3fa6.pth"  # 98 MB each

HOME = Path(os.environ.get("TORCH_HOME") or Path.home() / ".cache" / "torch")
FOLDER = HOME / "hub" / "checkpoints"

# %% [markdown]
# What is not there is downloaded; a file's name ends in the first digits of its SHA-256.

# %%
for name in FILES:
    if not (FOLDER / name).exists():
        print(f"downloading {name}")
        FOLDER.mkdir(parents=True, exist_ok=True)
        part = FOLDER / f"{name}.part"
        urllib.request.urlretrieve(f"https://download.pytorch.org/models/{name}", part)
        digest = hashlib.sha256(part.read_bytes()).hexdigest()
        assert digest.startswith(Path(name).stem.split("-")[-1]), f"{name} came damaged"
        part.rename(FOLDER / name)

# %% [markdown]
# ## From the weights alone
#
# Two models have nothing in common where the mean cosine of their matrices is about 0; trained on
# from the same weights they keep a good part of it.

# %%
paths = {"a": str(FOLDER / FILES[0]), "b": str(FOLDER / FILES[1])}
found = run.run(paths, model=MODEL)
print(*[finding.text for finding in found.findings], sep="\n")

# %% [markdown]
# How much each module changed, as a share of its norm. Two unrelated models of equal norms are
# 141 % apart in every module; one that was trained on has changed by less.

# %%
page.figures(found)["modules"]

# %% [markdown]
# The same in numbers, with the way in which each module differs: the same, scaled, its units in
# another order, unrelated, by a change of low rank, by noise, or simply changed.

# %%
print(found.modules().text())

# %% [markdown]
# The page has a row for every matrix, too, and each table as CSV and LaTeX beside it. A third file
# in `paths`, as `"parent"`, asks whether the two were made from it.

# %%
print(page.write(found, Path("audit")))

# %% [markdown]
# ## With photographs, if there are some
#
# A folder `photos` with a folder for each class, named by its number in ImageNet (0 to 999):
# `photos/207/dog.jpg` is a golden retriever. A few hundred are needed: every number comes with its
# interval over them, and of a net with batch normalisation the statistics between the two are taken
# from them as well.

# %%
PHOTOS = Path("photos")
if PHOTOS.is_dir():
    files = sorted(PHOTOS.glob("*/*"))
    images = [ImageOps.fit(Image.open(file).convert("RGB"), (224, 224)) for file in files]
    np.savez("photos.npz", images=images, labels=[int(file.parent.name) for file in files])
    found = run.run(paths, model=MODEL, data_path="photos.npz")
    print(*[finding.text for finding in found.findings[1:]], *found.notes, sep="\n")
else:
    print("No folder photos here: so far from the weights alone.")
drawn = page.figures(found)

# %% [markdown]
# The line between the two: where it falls to nothing they lie in two basins. "Units in one order"
# is the line after the hidden units of the second took the places of the first's.

# %%
drawn.get("line")

# %% [markdown]
# What each module carries: the accuracy that is lost when it is the other model's.

# %%
drawn.get("carried")

# %% [markdown]
# And how alike the features of each layer are, from 0 (unrelated) to 1.

# %%
drawn.get("features")

# %% [markdown]
# In a terminal the whole audit is `tlx audit A B --model=mobilenet_v2 --data=photos.npz`.
