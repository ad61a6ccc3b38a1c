"""The movement of parameters in training: how far, how straight, and in which direction.

`trajectory` follows the checkpoints of a run module by module, `alignment_of_movement` compares
the displacements of two models from their starts, and `subspace_overlap` and
`principal_overlap` the subspaces in which they lie. Where batch normalisation removes the scale of
a weight, its length is meaningless: `scale_invariant_leaves` lists such weights and
`normalised` returns the same function with the scale removed, for these functions and for
`distances`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tlx.analyses.parameters._inner import in_float64, inner
from tlx.analyses.parameters._scale_invariance import (
    ScaleInvariant,
    normalised,
    scale_invariant_leaves,
)
from tlx.analyses.parameters._subspaces import (
    PrincipalOverlap,
    SubspaceOverlap,
    principal_overlap,
    subspace_overlap,
)
from tlx.core import checks, host, public, shown, tree
from tlx.core import labels as labels_lib
from tlx.core.types import Labels, Params

__dir__ = public.names(__name__)

__all__ = ["Alignment", "Alignments", "Movement", "PrincipalOverlap", "ScaleInvariant",
           "SubspaceOverlap", "Trajectory", "alignment_of_movement", "normalised",
           "principal_overlap", "scale_invariant_leaves", "subspace_overlap",
           "trajectory"]  # fmt: skip


@shown.short
class Movement(NamedTuple):
    """How parameters θ₀, …, θ_{T−1} moved; M modules, or no such axis for all as one vector.

    Attributes:
      norm: float64 [T, M], ‖θ_t‖.
      displacement: float64 [T, M], ‖θ_t − θ_0‖.
      step: float64 [T − 1, M], ‖θ_{t+1} − θ_t‖.
      path: float64 [T, M], the sum of the steps up to t; at least `displacement`.
      straightness: float64 [T, M], displacement / path, 0 … 1; NaN where nothing moved yet.
      turn: float64 [T − 2, M], the cosine of each step and the one before, −1 … 1; NaN where
        one of them is zero.
      to_end: float64 [T − 1, M], the cosine of each step and the displacement of `end` from
        θ_0; NaN where one of them is zero; None without an end.
    """

    norm: Float[np.ndarray, "T M"]
    displacement: Float[np.ndarray, "T M"]
    step: Float[np.ndarray, "T1 M"]
    path: Float[np.ndarray, "T M"]
    straightness: Float[np.ndarray, "T M"]
    turn: Float[np.ndarray, "T2 M"]
    to_end: Float[np.ndarray, "T1 M"] | None


@shown.short
class Trajectory(NamedTuple):
    """The movement of a run.

    Attributes:
      modules: the M labels.
      by_module: each module's.
      total: that of all these modules as one vector.
    """

    modules: tuple[str, ...]
    by_module: Movement
    total: Movement


@host.only
def trajectory(
    checkpoints: Iterable[Params],
    labels: Labels,
    *,
    modules: Sequence[str] | None = None,
    end: Params | None = None,
) -> Trajectory:
    """How far and how straight a run moved, by module and in total, in one pass.

    Checkpoints are read one after the other, so that a generator that loads them lazily holds few
    of them. The length of a path grows with the density of checkpoints: between two of them the
    path counts as a straight line.

    Args:
      checkpoints: T ≥ 1 pytrees of arrays of one structure, in the order of training.
        Floating leaves count, batch statistics included where they are labelled, of complex
        ones the real and imaginary parts; an infinity or NaN that stays the same does not.
      labels: pytree of str of that structure: the module of each leaf.
      modules: which modules, in the order of the result; None takes all, in the order of
        their first leaf.
      end: the model towards which `Movement.to_end` measures: the last checkpoint, or any other
        of that structure.

    Returns:
      `Trajectory`.

    Raises:
      ValueError: at call, for no checkpoints, an unknown module, labels of another structure;
        and when it is read, for a checkpoint that differs from the first in structure, shape or
        dtype (every leaf named).

    Numerics: differences and sums over a leaf in float32 or more, all other sums in float64;
    relative error about 1e-6.
    Cost: each checkpoint is read once. Memory: the start, three checkpoints, `end`.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import parameters
    >>> from tlx.core import labels
    >>> run = [{"w": jnp.array(w)} for w in ([0.0, 0.0], [3.0, 0.0], [3.0, 4.0])]
    >>> found = parameters.movement.trajectory(run, labels.from_names(run[0], str)).total
    >>> found.displacement.tolist(), found.path.tolist(), found.straightness[-1].round(2).item()
    ([0.0, 3.0, 5.0], [0.0, 3.0, 7.0], 0.71)
    """
    chosen = _chosen(labels, modules)
    index = [chosen.index(label) for label in jax.tree.leaves(labels) if label in chosen]
    window: list[Params] = []
    rows = []
    for number, checkpoint in enumerate(checkpoints):
        host.check("tlx.analyses.parameters.movement.trajectory", checkpoints={number: checkpoint})
        checkpoint = labels_lib.select(checkpoint, labels, chosen)
        if not window:
            start = checkpoint
            goal = start if end is None else labels_lib.select(end, labels, chosen)
            tree.same_structure(start, goal, ("checkpoints[0]", "end"))
        tree.same_structure(start, checkpoint, ("checkpoints[0]", f"checkpoints[{number}]"))
        window = [*(window or [start, start]), checkpoint]
        rows.append(_by_module(in_float64(_step_sums(start, goal, *window)), index, len(chosen)))
        window = window[1:]  # before the next one is loaded
    if not rows:
        raise ValueError("expected at least one checkpoint, got none")
    sums = np.stack(rows)
    return Trajectory(
        chosen, _movement(sums, end is not None), _movement(sums.sum(1), end is not None)
    )


@shown.short
class Alignment(NamedTuple):
    """The alignment of two displacements; [M] or, for all modules as one vector, scalars.

    Attributes:
      cosine: float64 [M], −1 … 1; NaN where one of them is zero.
      chance: float64 [M], 1/√k for k parameters: the standard deviation of the cosine of two
        independent directions, uniform on the sphere, whose mean is 0; NaN for k = 0.
      z: float64 [M], cosine / chance. Gradients span few of the k directions, so even unrelated
        runs may have a large z: compare with such runs.
      length_a: float64 [M], the displacement of a.
      length_b: float64 [M], that of b.
      size: int [M], k, the number of floating entries, a complex one twice.
    """

    cosine: Float[np.ndarray, " M"]
    chance: Float[np.ndarray, " M"]
    z: Float[np.ndarray, " M"]
    length_a: Float[np.ndarray, " M"]
    length_b: Float[np.ndarray, " M"]
    size: Int[np.ndarray, " M"]


@shown.short
class Alignments(NamedTuple):
    """The alignment of two models' movements.

    Attributes:
      modules: the M labels.
      by_module: each module's.
      total: that of all these modules as one vector.
    """

    modules: tuple[str, ...]
    by_module: Alignment
    total: Alignment


@host.only
def alignment_of_movement(
    end_a: Params,
    end_b: Params,
    labels: Labels,
    *,
    start: Params,
    start_b: Params | None = None,
    modules: Sequence[str] | None = None,
) -> Alignments:
    """Whether two models moved in the same direction: the cosine of their displacements.

    ⟨a − p, b − q⟩ / (‖a − p‖ ‖b − q‖), for a fine-tuned from p and b from q, usually the same.

    Args:
      end_a: pytree of arrays, the model a. Floating leaves count.
      end_b: pytree of the same structure, the model b.
      labels: pytree of str of the same structure: the module of each leaf.
      start: the start of a, and of b unless `start_b` is given.
      start_b: the start of b; None for `start`.
      modules: which modules, in the order of the result; None takes all. Modules that are left
        out may differ in shape.

    Returns:
      `Alignments`; exchanging the models changes nothing but the names.

    Raises:
      ValueError: at call, if the compared parameters differ in structure, shape or dtype
        (every leaf named), if `labels` has another structure, or for an unknown module.

    Numerics: differences and sums over a leaf in float32 or more, all other sums in float64; at
      any scale of the weights.
    Cost: one read of each model.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import parameters
    >>> from tlx.core import labels
    >>> start = {"body": jnp.array([5.0, 5.0]), "head": jnp.array([5.0, 5.0])}
    >>> a = {"body": jnp.array([6.0, 5.0]), "head": jnp.array([6.0, 5.0])}
    >>> b = {"body": jnp.array([8.0, 5.0]), "head": jnp.array([5.0, 6.0])}  # head: elsewhere
    >>> modules = labels.from_names(start, str)
    >>> found = parameters.alignment_of_movement(a, b, modules, start=start)
    >>> dict(zip(found.modules, found.by_module.cosine.round(3).tolist(), strict=True))
    {'body': 1.0, 'head': 0.0}
    """
    chosen = _chosen(labels, modules)
    given = {"start": start, "end_a": end_a, "end_b": end_b}
    given["start_b"] = start if start_b is None else start_b
    if modules is None:
        for name, params in given.items():
            tree.same_structure(start, params, ("start", name))
    given = {name: labels_lib.select(params, labels, chosen) for name, params in given.items()}
    for name, params in given.items():
        tree.same_structure(given["start"], params, ("start", name))
    index = [chosen.index(label) for label in jax.tree.leaves(labels) if label in chosen]
    sums = _by_module(in_float64(_pair_sums(**given)), index, len(chosen))
    leaves = jax.tree.leaves(given["start"])
    counts = [[tree.num_reals(leaf)] for leaf in leaves]
    sizes = _by_module(np.array(counts).reshape(-1, 1), index, len(chosen))[:, 0].astype(int)
    return Alignments(chosen, _alignment(sums, sizes), _alignment(sums.sum(0), sizes.sum()))


def _chosen(labels: Labels, modules: Sequence[str] | None) -> tuple[str, ...]:
    known = labels_lib.unique(labels)
    for name in modules or ():
        if name not in known:
            raise ValueError(checks.unknown("module", name, known))
    return tuple(dict.fromkeys(known if modules is None else modules))


def _by_module(of_leaf: Any, index: Sequence[int], num_modules: int) -> np.ndarray:
    """Sums over the leaves of each module, [M, k] from [leaves, k]."""
    of_leaf = np.asarray(of_leaf, np.float64)
    out = np.zeros((num_modules, of_leaf.shape[1]))
    np.add.at(out, np.array(index, int), of_leaf)
    return out


@jax.jit
def _step_sums(start: Params, goal: Params, before: Params, last: Params, now: Params) -> Array:
    """`inner` [leaves, 6, 2]: ‖θ‖², ‖θ − θ₀‖², ‖s‖², ⟨s, step before⟩, ⟨s, g⟩, ‖g‖².

    s is the step and g = goal − θ₀.
    """

    def sums(s: Array, g: Array, b: Array, z: Array, x: Array) -> list[Array]:
        here, away, step, last, goal = map(tree.unit_scale, (x, x - s, x - z, z - b, g - s))
        pairs = ((here, here), (away, away), (step, step), (step, last), (step, goal))
        return [inner(*pair) for pair in (*pairs, (goal, goal))]

    return _of_leaves(sums, 6, start, goal, before, last, now)


@jax.jit
def _pair_sums(start: Params, end_a: Params, end_b: Params, start_b: Params) -> Array:
    """`inner` [leaves, 3, 2]: ⟨a, b⟩, ‖a‖², ‖b‖² of the displacements."""

    def sums(p: Array, a: Array, b: Array, q: Array) -> list[Array]:
        of_a, of_b = tree.unit_scale(a - p), tree.unit_scale(b - q)
        return [inner(*pair) for pair in ((of_a, of_b), (of_a, of_a), (of_b, of_b))]

    return _of_leaves(sums, 3, start, end_a, end_b, start_b)


def _of_leaves(sums: Any, num: int, *models: Params) -> Array:
    dtype = jnp.result_type(float)
    rows = []
    for leaves in zip(*map(jax.tree.leaves, models), strict=True):
        if tree.is_inexact(leaves[0]):
            found = sums(*tree.moving(*leaves))
            rows.append(jnp.stack(found).astype(dtype))
        else:
            rows.append(jnp.zeros((num, 2), dtype))
    return jnp.stack(rows) if rows else jnp.zeros((0, num, 2), dtype)


def _movement(sums: np.ndarray, has_end: bool) -> Movement:
    norm, displacement, step = np.sqrt(np.moveaxis(sums[..., :3], -1, 0))
    path = np.cumsum(step, axis=0)  # the first step is none
    turn = _cosine(sums[2:, ..., 3], step[2:], step[1:-1])
    to_end = _cosine(sums[1:, ..., 4], step[1:], np.sqrt(sums[1:, ..., 5]))
    straight = np.minimum(_ratio(displacement, path), 1)
    return Movement(norm, displacement, step[1:], path, straight, turn, to_end if has_end else None)


def _alignment(sums: np.ndarray, size: Any) -> Alignment:
    inner, a, b = np.moveaxis(sums, -1, 0)
    a, b = np.sqrt(a), np.sqrt(b)
    cosine, chance = _cosine(inner, a, b), _ratio(1.0, np.sqrt(size))
    return Alignment(cosine, chance, cosine / chance, a, b, np.asarray(size))


def _cosine(inner: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.clip(_ratio(inner, a * b), -1, 1)


def _ratio(x: Any, y: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # infinite by infinite is NaN
        return np.where(y == 0, np.nan, x / np.where(y == 0, 1, y))
