"""Small folders of synthetic JPEGs in the form of the real data sets."""

import csv
from pathlib import Path

import numpy as np

from tlx.data.sources.chexpert import DISEASES

OTHER = ("Sex", "Age", "No Finding", "Support Devices")  # columns that nothing reads


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth noise, uint8 [height, width, 3]: JPEG changes it little."""
    coarse = np.random.default_rng(seed).integers(30, 226, (4, 4, 3))
    rows = np.linspace(0, 3, height)
    columns = np.linspace(0, 3, width)
    low_r, low_c = rows.astype(int).clip(max=2), columns.astype(int).clip(max=2)
    r, c = (rows - low_r)[:, None, None], (columns - low_c)[None, :, None]
    top = coarse[low_r][:, low_c] * (1 - c) + coarse[low_r][:, low_c + 1] * c
    bottom = coarse[low_r + 1][:, low_c] * (1 - c) + coarse[low_r + 1][:, low_c + 1] * c
    return np.rint(top * (1 - r) + bottom * r).astype(np.uint8)


def write(file: Path, seed: int, *, grey: bool = False) -> None:
    """A JPEG of 40 to 71 pixels a side."""
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    height, width = np.random.default_rng(seed).integers(40, 72, 2)
    image = Image.fromarray(picture(seed, int(height), int(width)))
    (image.convert("L") if grey else image).save(file, quality=90)


def make_all(folder: Path) -> Path:
    """Every data set below, where TLX_DATA_DIR looks for them."""
    make_image_folder(folder / "folder")
    make_domainnet(folder / "domainnet", domains=("real", "clipart"))
    make_chexpert(folder / "chexpert")
    return folder


def make_image_folder(
    folder: Path, splits: tuple[str, ...] = ("train", "val"), classes: int = 3, per_class: int = 4
) -> Path:
    """ImageNet's layout: split/class/image.JPEG."""
    for s, split in enumerate(splits):
        for label in range(classes):
            for i in range(per_class):
                file = folder / split / f"n{label:08d}" / f"{split}_{label}_{i}.JPEG"
                write(file, 1000 * s + 10 * label + i)
    return folder


def make_domainnet(
    folder: Path, domains: tuple[str, ...] = ("real",), classes: int = 3, per_class: int = 4
) -> Path:
    """domain/class/image.jpg with the lists domain_train.txt and domain_test.txt."""
    for domain in domains:
        lines: dict[str, list[str]] = {"train": [], "test": []}
        for label in range(classes):
            for i in range(2 * per_class):
                path = f"{domain}/class_{label}/{domain}_{label:03d}_{i:06d}.jpg"
                write(folder / path, 100 * label + i)
                lines["test" if i % 2 else "train"].append(f"{path} {label}")
        for part, text in lines.items():
            (folder / f"{domain}_{part}.txt").write_text("\n".join(text) + "\n")
    return folder


def make_chexpert(folder: Path, images: int = 24, valid: int = 4) -> Path:
    """CheXpert-v1.0-small with every kind of mark."""
    marks = ("1.0", "0.0", "-1.0", "")
    for part, count in (("train", images), ("valid", valid)):
        rows = []
        for i in range(count):
            path = f"{part}/patient{i:05d}/study1/view1_frontal.jpg"
            write(folder / path, 7 * i + (part == "valid"), grey=True)
            values = {name: marks[(i >> j) % 4] for j, name in enumerate(DISEASES)}
            rows.append(
                {"Path": f"CheXpert-v1.0-small/{path}", **dict.fromkeys(OTHER, ""), **values}
            )
        with (folder / f"{part}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["Path", *OTHER, *DISEASES])
            writer.writeheader()
            writer.writerows(rows)
    return folder
