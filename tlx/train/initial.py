"""The weights that a run starts from."""

import dataclasses
import hashlib
import zlib
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tlx import checkpoints
from tlx.analyses.landscape import averaging
from tlx.core import tree
from tlx.core.types import Params
from tlx.train import importing
from tlx.train import workdir as workdir_lib
from tlx.train.spec import HEAD, InitFrom, RunSpec
from tlx.train.state import init_variables


def initial_variables(
    spec: RunSpec, module: nn.Module, inputs_shape: tuple[int, ...]
) -> tuple[Params, checkpoints.Origin | None]:
    """The variables before the first step, and their origin.

    Args:
      spec: of the run.
      module: its model.
      inputs_shape: [B, …] of an input.

    Returns:
      {"params": …, maybe "batch_stats"}; and the origin of the checkpoint that the modules
      which `init_from` names come from, None for a random initialisation.

    Raises:
      ValueError: the checkpoint does not exist, its run is not done (for "last" and "best"),
        the model has no head, or leaves differ from the model's, each named.
    """
    own = init_variables(module, spec.seed, inputs_shape)
    if spec.init_from is None:
        return own, None
    start = spec.init_from
    origin = find_origin(start)
    loaded = _loaded(start)
    _require_fit(loaded, own, start)

    def begin(name: str, leaf: Any) -> Any:
        if _is_taken(name, start):
            if start.weights == "copied":
                return loaded[name]
            return _redrawn(name, loaded[name], spec.seed) if name.startswith("params/") else leaf
        is_zero = start.head == "zeros" and name.startswith(f"params/{HEAD}/")
        return jnp.zeros_like(leaf) if is_zero else leaf

    return tree.map_named(begin, own), origin


def _loaded(start: InitFrom) -> dict[str, Any]:
    """The leaves of the checkpoint, or their means over several, by name."""
    found = [(_origin(one), one) for one in _each(start)]
    every: list[dict[str, Any]] = []
    # in an order of their own, so that the mean has the same bits however they are named
    for origin, one in sorted(found, key=lambda pair: checkpoints.identity(pair[0])):
        leaves = tree.named_leaves(
            checkpoints.restore(one.workdir, int(origin["step"]), as_numpy=True)
        )
        if every:
            names = (f"checkpoint {Path(one.workdir)}", "checkpoint of another run of the mean")
            tree.same_structure(leaves, every[0], names=names)
        every.append(leaves)
    return every[0] if len(every) == 1 else dict(averaging.uniform_soup(every))


def _each(start: InitFrom) -> list[InitFrom]:
    """The starts whose mean a start is, each of one run."""
    places = (start.workdir, *start.average)
    return [dataclasses.replace(start, workdir=place, average=()) for place in places]


def find_origin(start: InitFrom) -> checkpoints.Origin:
    """The origin of the checkpoint that `start` names; of a mean one that all of them decide.

    Raises:
      ValueError: as `initial_variables`.
    """
    every = [_origin(one) for one in _each(start)]
    if len(every) == 1:
        return every[0]
    identities = "".join(sorted(map(checkpoints.identity, every)))
    digest = hashlib.sha256(identities.encode()).hexdigest()
    name = "mean of " + ", ".join(origin["run"] for origin in every)
    return {**every[0], "run": name, "digest": digest, "weights": None}


def _origin(start: InitFrom) -> checkpoints.Origin:
    if not Path(start.workdir).is_dir():
        raise ValueError(
            "init_from: expected the workdir of a run, or of tlx import, but there is no folder "
            f"{start.workdir}"
        )
    is_done = workdir_lib.read_result(start.workdir) or importing.read(start.workdir)
    if isinstance(start.step, str) and is_done is None:
        raise ValueError(
            f"init_from: expected a run that is done for step {start.step!r}, got the unfinished "
            f"one in {start.workdir}; finish it, or name one of its steps "
            f"({', '.join(map(str, checkpoints.steps(start.workdir))) or 'none yet'})"
        )
    return checkpoints.origin(start.workdir, checkpoints.resolve(start.workdir, start.step))


def _redrawn(name: str, like: np.ndarray, seed: int) -> Any:
    """Independent normal numbers with the mean and the standard deviation of a tensor."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(f"statistics/{name}".encode()))
    values = np.asarray(like, np.float64)
    drawn = np.asarray(jax.random.normal(key, like.shape, jnp.float32), np.float64)
    return jnp.asarray(values.mean() + values.std() * drawn, like.dtype)


def _is_taken(name: str, start: InitFrom) -> bool:
    """Whether the leaf "params/module/…" (or of another collection) is the checkpoint's."""
    module = name.split("/")[1]
    if module == HEAD:
        return start.head == "keep"
    return start.modules is None or module in start.modules


def _require_fit(loaded: dict[str, Any], own: dict[str, Any], start: InitFrom) -> None:
    if start.head != "keep" and HEAD not in own["params"]:
        raise ValueError(
            f"init_from.head: expected a model with a module {HEAD!r} to start anew, got "
            f"{', '.join(own['params'])}; use head 'keep'"
        )
    taken, wanted = (
        {name: leaf for name, leaf in leaves.items() if _is_taken(name, start)}
        for leaves in (loaded, tree.named_leaves(own))
    )
    names = (f"checkpoint {Path(start.workdir)} step {start.step}", "the model")
    tree.same_structure(taken, wanted, names=names)
