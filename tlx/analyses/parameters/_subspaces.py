"""The overlap of the leading directions of two models."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import linalg

from tlx.core import host, shown, tree
from tlx.core.entries import blocks
from tlx.core.types import Params

BLOCK = 2**20
"""The most entries of all checkpoints that are widened to float64 at once."""


@shown.short
class SubspaceOverlap(NamedTuple):
    """The overlap of singular subspaces, weight by weight (L of them, with two or more axes).

    Attributes:
      leaves: their names.
      inputs: float64 [L], ‖U_aᵀU_b‖² / r of the leading r directions on the side of the
        inputs, 0 (orthogonal) … 1 (the same subspace); NaN where one is not defined.
      outputs: float64 [L], likewise on the side of the outputs.
      inputs_chance: float64 [L], r / n for n inputs, what a random subspace has in expectation.
      outputs_chance: float64 [L], likewise.
    """

    leaves: tuple[str, ...]
    inputs: Float[np.ndarray, " L"]
    outputs: Float[np.ndarray, " L"]
    inputs_chance: Float[np.ndarray, " L"]
    outputs_chance: Float[np.ndarray, " L"]


@host.only
def subspace_overlap(
    params_a: Params, params_b: Params, *, rank: int, output_axis: int = -1
) -> SubspaceOverlap:
    """The overlap of the leading singular subspaces of each weight of two models.

    Each floating leaf with two or more axes is a matrix [inputs, outputs] (a convolution's
    inputs are its window and channels). Given differences, `tree.sub(end, start)`, it compares
    the subspaces in which two models moved.

    Args:
      params_a: pytree of arrays, the weights or movement of a.
      params_b: pytree of the same structure.
      rank: r, the number of directions, from 1.
      output_axis: the axis of outputs in a leaf: −1 in the layout of Flax and Haiku, 0 in that
        of Equinox and PyTorch.

    Returns:
      `SubspaceOverlap`. NaN where the leading r directions of either are not defined: r is
      above the rank (zero movement included), or the singular values r and r + 1 are equal up
      to rounding; and where a value is not finite. Where r is the size of a side, the overlap
      there is 1, as by chance.

    Raises:
      ValueError: at call, if the models differ in structure, shape or dtype (every leaf
        named), for a rank below 1, or if no leaf has two axes.

    Numerics: in float64 on the host, from the product of each matrix with itself; "up to
    rounding" is the largest singular value times n·eps of the dtype, n the larger side (√(n·eps)
    of float64 where that is more). The difference of two models contains their rounding, which
    cannot be distinguished from movement.
    Cost: for a weight n × k of two models, k ≤ n, about 4·n·k² + 3·k³ flops.

    References: E. Hu et al., LoRA: low-rank adaptation of large language models, 2021, section 7.2.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import parameters
    >>> a = {"kernel": jnp.diag(jnp.array([3.0, 2.0, 1.0, 0.0]))}
    >>> b = {"kernel": jnp.diag(jnp.array([3.0, 0.0, 1.0, 2.0]))}  # shares the first direction
    >>> found = parameters.subspace_overlap(a, b, rank=2)
    >>> found.inputs.round(3).tolist(), found.inputs_chance.tolist()
    ([0.5], [0.5])
    """
    if rank < 1:
        raise ValueError(f"expected a rank of at least 1, got {rank}")
    tree.same_structure(params_a, params_b)
    pairs = {
        name: (a, b)
        for (name, a), b in zip(
            tree.named_leaves(params_a).items(), jax.tree.leaves(params_b), strict=True
        )
        if np.ndim(a) > 1 and np.size(a) and tree.is_inexact(a)
    }
    if not pairs:
        raise ValueError("expected at least one floating leaf with two or more axes, got none")
    found = [
        _overlaps(*(_leading(leaf, rank, output_axis) for leaf in pair)) for pair in pairs.values()
    ]
    sizes = [_matrix(a, output_axis).shape for a, _ in pairs.values()]
    chance = np.minimum(rank / np.array(sizes), 1)
    overlap = np.array(found)
    return SubspaceOverlap(tuple(pairs), *overlap.T, *chance.T)


@shown.short
class PrincipalOverlap(NamedTuple):
    """The overlap of the planes in which two runs moved.

    Attributes:
      overlap: float64 scalar, ‖U_aᵀU_b‖² / r of their r principal directions, 0 … 1; NaN where
        one run has none.
      chance: float64 scalar, r / k for k floating entries (a complex one twice), that of a
        random subspace.
      explained_a: float64 scalar, the share of a's variance along its r directions.
      explained_b: float64 scalar, that of b.
    """

    overlap: float
    chance: float
    explained_a: float
    explained_b: float


@host.only
def principal_overlap(
    checkpoints_a: Sequence[Params], checkpoints_b: Sequence[Params], *, rank: int
) -> PrincipalOverlap:
    """The overlap of the principal directions of two runs' checkpoints.

    With X [T, k] the checkpoints of a run less their mean and V, Λ the leading eigenvectors
    and -values of XXᵀ [T, T], the directions are U = XᵀVΛ^(−1/2), and U_aᵀU_b comes from the
    products X_aX_bᵀ: nothing of size k × k is formed.

    Args:
      checkpoints_a: T ≥ 2 pytrees of one structure, the run a.
      checkpoints_b: two or more of the same structure, the run b; in any number and order.
      rank: r, the number of directions, from 1.

    Returns:
      `PrincipalOverlap`; the overlap is NaN where the leading r directions of a run are not
      defined: r is above T − 1 or the number of directions in which its checkpoints differ, or
      the spreads along directions r and r + 1 are equal up to rounding; and where a value is not
      finite, but for an infinity or NaN that is the same in all checkpoints.

    Raises:
      ValueError: at call, for a rank below 1, fewer than two checkpoints in a run, or
        checkpoints that differ in structure, shape or dtype (every leaf named).

    Numerics: sums in float64 on the host; "up to rounding" is within the dtype's eps times the
    largest norm of a checkpoint.
    Cost: (T_a + T_b)²·k multiplications; memory for a block besides the checkpoints.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import parameters
    >>> a = [{"w": jnp.array([t, t, 0.0, 0.0])} for t in (0.0, 1.0, 2.0)]
    >>> b = [{"w": jnp.array([5 * t, 5 * t, 1.0, 1.0])} for t in (0.0, 1.0)]  # parallel
    >>> found = parameters.principal_overlap(a, b, rank=1)
    >>> round(float(found.overlap), 3), float(found.chance)
    (1.0, 0.25)
    """
    if rank < 1:
        raise ValueError(f"expected a rank of at least 1, got {rank}")
    for name, run in (("checkpoints_a", checkpoints_a), ("checkpoints_b", checkpoints_b)):
        if len(run) < 2:
            raise ValueError(f"expected two or more checkpoints in {name}, got {len(run)}")
    every = [*checkpoints_a, *checkpoints_b]
    num = len(checkpoints_a)
    for i, params in enumerate(every):
        name = f"checkpoints_a[{i}]" if i < num else f"checkpoints_b[{i - num}]"
        tree.same_structure(every[0], params, ("checkpoints_a[0]", name))
    gram, squares, size, eps = _gram(every, num)
    (basis_a, explained_a), (basis_b, explained_b) = (
        _principal(gram[rows, rows], rank, eps * np.sqrt(squares[rows].max()))
        for rows in (slice(None, num), slice(num, None))
    )
    overlap = np.nan
    if basis_a is not None and basis_b is not None:
        overlap = min(np.square(basis_a.T @ gram[:num, num:] @ basis_b).sum() / rank, 1.0)
    chance = min(rank / size, 1.0) if size else np.nan
    return PrincipalOverlap(float(overlap), chance, explained_a, explained_b)


def _matrix(leaf: Any, output_axis: int) -> np.ndarray:
    moved = np.moveaxis(np.asarray(leaf), output_axis, -1)
    return moved.reshape(-1, moved.shape[-1])


def _leading(leaf: Any, rank: int, output_axis: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The leading r singular vectors of both sides, [n, r] each; None if not defined."""
    matrix = _matrix(leaf, output_axis)
    eps = float(jnp.finfo(leaf.dtype).eps)
    wide = matrix.astype(np.complex128 if np.iscomplexobj(matrix) else np.float64)
    if rank > min(wide.shape) or not np.isfinite(wide).all():
        return None
    tall = wide if wide.shape[0] >= wide.shape[1] else wide.conj().T
    size = tall.shape[1]
    squares, vectors = linalg.eigh(
        tall.conj().T @ tall, subset_by_index=(max(size - rank - 1, 0), size - 1)
    )
    values = np.sqrt(np.maximum(squares[::-1], 0))
    gap = values[rank - 1] - (values[rank] if rank < len(values) else 0)
    if not gap > values[0] * max(len(tall) * eps, np.sqrt(len(tall) * np.finfo(np.float64).eps)):
        return None
    short = vectors[:, ::-1][:, :rank]
    long = tall @ (short / values[None, :rank])
    return (long, short) if tall is wide else (short, long)


def _overlaps(a: Any, b: Any) -> tuple[float, float]:
    if a is None or b is None:
        return np.nan, np.nan
    inputs, outputs = (
        min(float(np.square(np.abs(x.conj().T @ y)).sum()) / x.shape[1], 1.0)
        for x, y in zip(a, b, strict=True)
    )
    return inputs, outputs


def _gram(every: Sequence[Params], num: int) -> tuple[np.ndarray, np.ndarray, int, float]:
    """Products of the checkpoints less their runs' means, ‖θ‖² of each, k, and the coarsest eps."""
    gram, squares = np.zeros((len(every), len(every))), np.zeros(len(every))
    size, eps = 0, 0.0
    for leaves in zip(*map(jax.tree.leaves, every), strict=True):
        if not tree.is_inexact(leaves[0]):
            continue
        size += tree.num_reals(leaves[0])
        eps = max(eps, float(jnp.finfo(jnp.result_type(leaves[0])).eps))
        for rows in blocks(leaves, BLOCK):
            rows = np.where(tree.constant(list(rows))[None], 0, rows)
            squares += np.square(rows).sum(1)
            parts = (rows[:num], rows[num:])
            centred = np.concatenate([part - part.mean(0)[None] for part in parts])
            gram += centred @ centred.T
    return gram, squares, size, eps


def _principal(gram: np.ndarray, rank: int, least: float) -> tuple[np.ndarray | None, float]:
    """VΛ^(−1/2) of the leading r directions [T, r], None if not defined; their share.

    Spreads that differ by no more than `least`, or by the rounding of `eigh`, are equal.
    """
    if not np.isfinite(gram).all():
        return None, np.nan
    values, vectors = np.linalg.eigh(gram)
    spread = np.sqrt(np.maximum(values[::-1], 0))
    total = float(np.square(spread).sum())
    least = max(least, spread[0] * np.sqrt(len(gram) * np.finfo(np.float64).eps))
    explained = float(np.square(spread[:rank]).sum()) / total if total else np.nan
    if rank >= len(gram) or not spread[rank - 1] - spread[rank] > least:
        return None, explained
    return vectors[:, ::-1][:, :rank] / spread[None, :rank], explained
