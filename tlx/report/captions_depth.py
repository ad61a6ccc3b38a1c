"""What stands under the figures about single layers: what is drawn, of which runs and images."""

from __future__ import annotations

from collections.abc import Sequence

from tlx.records import Record
from tlx.report import measures_depth, panels_depth
from tlx.report.numbers import count

_SPATIAL = {
    "flatten": " Feature maps are flattened.",
    "pool": " Feature maps are averaged over their positions.",
}

OPERATORS = {
    "circular": "convolutions as maps of whole feature maps with their borders joined",
    "reshaped": "the kernels of convolutions as matrices",
    "operator": "convolutions as maps of whole feature maps with their own stride and borders",
}


def probes(records: Sequence[Record]) -> str:
    """Returns the caption of the linear probes."""
    found = measures_depth.probes(records)
    runs = ", ".join(f"{v.num_runs} {kind}" for kind, v in found.items())
    train, test = (max(getattr(v, n) for v in found.values()) for n in ("num_train", "num_images"))
    random = " RI has random weights, before any training." if "RI" in found else ""
    gains = (
        " The second panel is what training added to random weights, with the intervals of a "
        "difference between independent samples."
        if "RI" in found and len(found) > 1
        else ""
    )
    spatial = sorted({v.spatial for v in found.values()})
    return (
        "The target's classes as a linear map reads them from each layer, fitted to "
        f"{train:,} training images; bands are 95% intervals over n = {test:,} test images "
        f"({runs}).{random}{gains}" + "".join(_SPATIAL.get(name, "") for name in spatial)
    )


def partial_transfer(records: Sequence[Record]) -> str:
    """Returns the caption of the runs that take only some modules from P."""
    runs = measures_depth.partial(records)
    every = [c for own in runs.values() for found in own.values() for c in found]
    n, train = (max((getattr(c, name) for c in every), default=0)
                for name in ("num_test", "train_size"))  # fmt: skip
    frozen = (
        " Dashed: those taken from P stay as they are." if any("frozen" in w for w in runs) else ""
    )
    some = "the first k modules start"
    if any(way.startswith("except") for way in runs):
        some = "the first k modules, or all but those, start"
    return (
        f"Fine-tuning where only {some} from P ({count(len(every), 'run')}); the others start "
        f"fresh, and all is trained as P-T is, which need not be as RI-T is.{frozen} The "
        "horizontal lines are P-T, which takes all modules of the body, and RI-T. Bars and bands "
        f"are one binomial standard error (n = {n:,} test images"
        f"{f', {train:,} training images' if train else ''})."
    )


def spectra(records: Sequence[Record]) -> str:
    """Returns the caption of the singular values."""
    found = measures_depth.spectra(records)
    names = len({name for s in found.values() for name in s.names})
    shown = len(panels_depth.drawn(found))
    seen = OPERATORS.get(measures_depth.operator(records), "")
    return (
        f"Singular values of {'the' if shown == names else f'{shown} of {names}'} layers, the "
        f"largest first{f': {seen}' if seen else ''}. One model of each kind "
        f"({', '.join(s.run for s in found.values())}), after its last step. Values below "
        f"1/{1 / panels_depth.CUT:,.0f} of the largest of all are cut off."
    )
