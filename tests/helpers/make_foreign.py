"""Writes tests/golden/foreign with torch: python -m tests.helpers.make_foreign (torch 2.13)."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parents[1] / "golden" / "foreign"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = OrderedDict(
        plain=base,
        turned=base.T,
        part=base[1:3, ::2],
        half=(base / 8).half(),
        brain=(base / 8).bfloat16(),
        count=torch.tensor(7),
        flags=torch.tensor([True, False]),
        empty=torch.zeros((0, 3)),
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(base)], lr=0.1, momentum=0.9).state_dict()
    more = {
        "epoch": 3,
        "best_acc": np.float64(0.5),
        "net": {"weight": torch.nn.Parameter(base)},
        "state_dict": state,
        "optimizer": optimizer,
        "sizes": base.shape,
    }
    for kind, is_zip in (("zip", True), ("legacy", False)):
        for name, content in ((kind, state), (f"nested_{kind}", more)):
            torch.save(content, FOLDER / f"{name}.pth", _use_new_zipfile_serialization=is_zip)
    torch.save({"x": torch.arange(5.0)}, FOLDER / "one.pth")
    save_file(
        {name: t.contiguous().clone() for name, t in state.items()}, FOLDER / "types.safetensors"
    )


if __name__ == "__main__":
    main()
