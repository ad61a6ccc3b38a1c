"""The weights that a run starts from."""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tlx import checkpoints
from tlx.core import checks, tree
from tlx.core.types import Params
from tlx.train import workdir as workdir_lib
from tlx.train.spec import InitFrom, RunSpec
from tlx.train.state import init_variables

HEAD = "head"


def initial_variables(
    spec: RunSpec, module: nn.Module, inputs_shape: tuple[int, ...]
) -> tuple[Params, checkpoints.Origin | None]:
    """The variables before the first step, and where they come from.

    Args:
      spec: of the run.
      module: its model.
      inputs_shape: [B, …] of an input.

    Returns:
      {"params": …, maybe "batch_stats"}; and the origin of the checkpoint that all but a
      new head comes from, None for a random initialisation.

    Raises:
      ValueError: the checkpoint is not there, its run is not done (for "last" and "best"),
        the model has no head, or leaves differ from the model's, each named.
    """
    own = init_variables(module, spec.seed, inputs_shape)
    if spec.init_from is None:
        return own, None
    start = spec.init_from
    origin = find_origin(start)
    loaded = checkpoints.restore(start.workdir, int(origin["step"]), as_numpy=True)
    _require_fit(loaded, own, start)
    if start.head != "keep":
        head = own["params"][HEAD]
        if start.head == "zeros":
            head = jax.tree.map(jnp.zeros_like, head)
        loaded["params"][HEAD] = head
    ordered = tree.named_leaves(loaded)
    leaves = [ordered[name] for name in tree.names(own)]
    return jax.tree.unflatten(jax.tree.structure(own), leaves), origin


def find_origin(start: InitFrom) -> checkpoints.Origin:
    """The origin of the checkpoint that `start` names.

    Raises:
      ValueError: as `initial_variables`.
    """
    if isinstance(start.step, str) and workdir_lib.read_result(start.workdir) is None:
        raise ValueError(
            f"init_from: the run in {start.workdir} is not done, so it has no {start.step!r} "
            "step yet; finish it, or name one of its steps "
            f"({', '.join(map(str, checkpoints.steps(start.workdir))) or 'none yet'})"
        )
    return checkpoints.origin(start.workdir, checkpoints.resolve(start.workdir, start.step))


def _require_fit(loaded: dict[str, Any], own: dict[str, Any], start: InitFrom) -> None:
    names = (f"checkpoint {Path(start.workdir)} step {start.step}", "the model")
    if start.head == "keep":
        checks.same_structure(loaded, own, names=names)
        return
    if HEAD not in own["params"]:
        raise ValueError(
            f"init_from.head: expected a model with a module {HEAD!r} to start anew, found "
            f"{', '.join(own['params'])}; use head 'keep'"
        )
    checks.same_structure(_body(loaded), _body(own), names=names)


def _body(variables: dict[str, Any]) -> dict[str, Any]:
    params = {name: leaf for name, leaf in variables["params"].items() if name != HEAD}
    return {**variables, "params": params}
