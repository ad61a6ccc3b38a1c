"""PyTorch's names and layouts of our models' weights, both ways, every tensor accounted for.

ResNets, MobileNetV2, ViT and ConvNeXt have the names of torchvision and of timm, Fixup ResNets
those of their authors (`tlx.models.torch_schemes`).
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tlx.core import checks, tree
from tlx.models.torch_schemes import SCHEMES, Scheme, name_of

COUNTER = "num_batches_tracked"
"""The counter of PyTorch's batch normalisation, which ours lacks."""

COUNTERS = {
    COUNTER: "a counter",
    "n_averaged": "a counter",
    "position_ids": "an index",
    "relative_position_index": "an index",
}
"""Integers beside weights, which our models do not have, and what they are."""

STEM = "params/stem/conv/kernel"
"""The kernel that reads images."""

HEAD = "params/head/"

_SHOWN = 20


def libraries(module: nn.Module) -> tuple[str, ...]:
    """The libraries whose names a model has here; weights are written with the first's.

    Raises:
      ValueError: if the model is of a family without such names.
    """
    return tuple(_schemes(module))


def torch_name(module: nn.Module, leaf: str, names: str | None = None) -> str:
    """PyTorch's name of a leaf, "params/stage1_block1/conv1/kernel" or of "batch_stats".

    Args:
      module: a model.
      leaf: our name.
      names: one of `libraries`; None: the first.

    Raises:
      ValueError: if the model is of a family without such names, or the library is not known.
    """
    return name_of(_scheme(module, names), module, leaf)


def _schemes(module: nn.Module) -> dict[str, Scheme]:
    if type(module) not in SCHEMES:
        known = sorted(family.__name__ for family in SCHEMES)
        raise ValueError(
            f"expected a model with PyTorch names ({', '.join(known)}), got {type(module).__name__}"
        )
    return SCHEMES[type(module)]


def _scheme(module: nn.Module, names: str | None) -> Scheme:
    schemes = _schemes(module)
    if names is None:
        return next(iter(schemes.values()))
    if names not in schemes:
        raise ValueError(checks.unknown("library of names", names, schemes))
    return schemes[names]


def library_of(module: nn.Module, tensors: Mapping[str, Any]) -> str:
    """The library, of `libraries`, whose names most of the tensors have."""
    leaves = shapes(module)

    def shared(names: str) -> int:
        return sum(torch_name(module, leaf, names) in tensors for leaf in leaves)

    return max(libraries(module), key=shared)


def unprefixed(module: nn.Module, tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """The tensors without what stands before all their names.

    Wrappers put "module.", "_orig_mod.", "model.", "backbone." and the like before every name,
    one before the other; as much is taken off as makes most names the model's. The counters of
    `COUNTERS` do not count, since wrappers add some too.
    """
    names = [name for name in tensors if not is_counter(name)]
    prefixes = [""]
    for part in names[0].split(".")[:-1] if names else ():
        prefixes.append(f"{prefixes[-1]}{part}.")
        if not all(name.startswith(prefixes[-1]) for name in names):
            prefixes.pop()
            break
    if prefixes == [""]:
        return tensors
    leaves = shapes(module)
    known = {torch_name(module, leaf, lib) for lib in libraries(module) for leaf in leaves}

    def fits(prefix: str) -> int:
        return sum(name.removeprefix(prefix) in known for name in names)

    prefix = max(prefixes, key=fits)
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def is_counter(name: str) -> bool:
    """Whether it is one of `COUNTERS`, at any depth."""
    return name.rpartition(".")[2] in COUNTERS


def not_floats(tensors: Mapping[str, Any]) -> list[str]:
    """A line for each tensor that is not of real floating numbers, as quantised weights are."""
    return [
        f"type: {name}: expected floats, got {value.dtype}"
        for name, value in tensors.items()
        if not jnp.issubdtype(value.dtype, jnp.floating)
    ]


def shapes(module: nn.Module, channels: int = 3) -> dict[str, Any]:
    """The model's leaves by name, "params/…" and "batch_stats/…", as shapes and dtypes."""
    return dict(_shapes(module, channels))


@functools.lru_cache(maxsize=16)  # tracing takes seconds, and is asked for several times
def _shapes(module: nn.Module, channels: int) -> Mapping[str, Any]:
    inputs = jax.ShapeDtypeStruct((1, 64, 64, channels), jnp.float32)
    return tree.named_leaves(jax.eval_shape(module.init, jax.random.key(0), inputs))


def from_torch(
    module: nn.Module, tensors: Mapping[str, np.ndarray], *, head: str = "keep"
) -> tuple[dict[str, Any], dict[str, str]]:
    """A model's variables from PyTorch's tensors.

    Args:
      module: a model.
      tensors: PyTorch's state dict, with the names of one of `libraries`; what stands before
        every name is taken off (`unprefixed`).
      head: "keep", or "drop": leave the file's classifier out, and the model's too.

    Returns:
      {"params": …, maybe "batch_stats": …} of float32 numpy arrays in our layouts, and of each
      tensor that was left out the reason.

    Raises:
      ValueError: listing every tensor that is missing, extra, of another shape or not of floats.
    """
    tensors = unprefixed(module, tensors)
    names = library_of(module, tensors)
    first = np.shape(tensors.get(torch_name(module, STEM, names), ()))
    leaves = shapes(module, first[1] if len(first) == 4 else 3)
    wanted = {torch_name(module, leaf, names): (leaf, like) for leaf, like in leaves.items()}
    skipped = {n: COUNTERS[n.rpartition(".")[2]] for n in tensors if is_counter(n)}
    if head == "drop":
        heads = {name for name, (leaf, _) in wanted.items() if leaf.startswith(HEAD)}
        wanted = {name: pair for name, pair in wanted.items() if name not in heads}
        skipped |= {name: "the head" for name in tensors if name in heads}
    given = {name: value for name, value in tensors.items() if name not in skipped}
    problems = [f"missing: {n} ({leaf})" for n, (leaf, _) in wanted.items() if n not in given]
    problems += [f"extra: {n} {list(v.shape)}" for n, v in given.items() if n not in wanted]
    problems += not_floats({name: given[name] for name in given if name in wanted})
    for name in wanted.keys() & given.keys():
        leaf, like = wanted[name]
        expected = _theirs(name, np.empty(like.shape, np.bool_)).shape
        if given[name].shape != expected:
            found = given[name].shape
            problems.append(f"shape: {name} ({leaf}): expected {list(expected)}, got {list(found)}")
    if problems:
        lines = "".join(f"\n  {line}" for line in sorted(problems)[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{len(problems)} tensors do not fit {type(module).__name__}; is it the model that the "
            f"file was saved from, with the same width, depth and classes?{lines}{more}"
        )
    values = {
        leaf: to_layout(np.asarray(given[name], np.float32), torch=False).reshape(like.shape)
        for name, (leaf, like) in wanted.items()
    }
    return tree.nested(values), skipped


def to_torch(
    module: nn.Module, variables: Mapping[str, Any], names: str | None = None
) -> dict[str, np.ndarray]:
    """PyTorch's state dict of a model's variables, the inverse of `from_torch`.

    `names` are those of one of `libraries`; None: of the first. Batch normalisation's counters are
    there as 0, so that strict loading works.
    """
    leaves = tree.named_leaves(variables)
    theirs = {torch_name(module, leaf, names): np.asarray(x) for leaf, x in leaves.items()}
    found = {name: np.asarray(_theirs(name, x), order="C") for name, x in theirs.items()}
    means = [name for name in found if name.endswith("running_mean")]
    counters = {name.replace("running_mean", COUNTER): np.zeros((), np.int64) for name in means}
    return found | counters


def _theirs(name: str, value: np.ndarray) -> np.ndarray:
    """In PyTorch's layout; torchvision's layer_scale is [C, 1, 1]."""
    value = to_layout(value, torch=True)
    return value.reshape(-1, 1, 1) if name.endswith("layer_scale") else value


def to_layout(value: np.ndarray, *, torch: bool) -> np.ndarray:
    """A weight with its axes as PyTorch has them, or as we do.

    Convolutions are [out, in, height, width] there and [height, width, in, out] here, matrices
    [out, in] and [in, out]; other leaves are the same.
    """
    if value.ndim == 4:
        return value.transpose((3, 2, 0, 1) if torch else (2, 3, 1, 0))
    return value.T if value.ndim == 2 else value
