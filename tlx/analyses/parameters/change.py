"""What training changed in each matrix of a model: how much, of which rank, in new directions.

The change of a fine-tuned matrix may be of low rank, although the matrix is not; and among the
largest singular vectors of the matrix may be some that the pretrained one does not have, its
intruder dimensions (R. Shuttleworth, J. Andreas, A. Torralba, P. Sharma, "LoRA vs full
fine-tuning: an illusion of equivalence", arXiv 2410.21228): adapters of low rank bring them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tlx.analyses.parameters import _spectral_summary
from tlx.analyses.parameters._leaf_matrices import Layer, by_shape
from tlx.analyses.parameters._spectral_summary import Summary
from tlx.core import host, public, shown, tree
from tlx.core.types import Params

__dir__ = public.names(__name__)


SMALLEST = 1e-7
"""Of the largest singular value: smaller ones are 0 up to rounding, and have no direction."""


@shown.short
class Change(NamedTuple):
    """The change Δ = W − W₀ of L matrices.

    Attributes:
      layers: the names of their leaves.
      relative: float64 [L], ‖Δ‖ / ‖W₀‖; infinite where only W₀ is 0, NaN where both are.
      cosine: float64 [L], ⟨W, W₀⟩ / (‖W‖ ‖W₀‖), −1 … 1; NaN where one is 0.
      chance: float64 [L], 1/√(I·O), the standard deviation of the cosine of unrelated matrices.
      scale: float64 [L], ⟨W, W₀⟩ / ‖W₀‖²: the factor c with which c·W₀ is nearest to W.
      summaries: `Summary` of arrays [L], of the singular values of Δ.
      rank: int64 [L], the least number of directions that hold a `share` of ‖Δ‖²; 0 where Δ is 0.
      full_rank: int64 [L], the smaller of I and O.
      as_noise: float64 [L], the stable rank of a matrix of these sides with independent Gaussian
        entries, I·O / (√I + √O)², to which that of noise comes near.
      spectra: float64 [L], the largest difference of a singular value of W and that of W₀ of the
        same number, by the largest of W₀: about 0 for units in another order, or turned. NaN
        where W₀ is 0.
      intruders: int64 [L], how many of the `top` singular vectors of W (on the side of the
        outputs, where they are weighed) have a cosine `below` with every one of W₀.
      nearest: float64 [L, top], for each of these the largest cosine, 0 … 1, the one of the
        largest singular value first; NaN beyond the rank.
    """

    layers: tuple[str, ...]
    relative: Float[np.ndarray, " L"]
    cosine: Float[np.ndarray, " L"]
    chance: Float[np.ndarray, " L"]
    scale: Float[np.ndarray, " L"]
    summaries: Summary
    rank: Int[np.ndarray, " L"]
    full_rank: Int[np.ndarray, " L"]
    as_noise: Float[np.ndarray, " L"]
    spectra: Float[np.ndarray, " L"]
    intruders: Int[np.ndarray, " L"]
    nearest: Float[np.ndarray, "L top"]


@host.only
def of_layers(
    start: Params,
    end: Params,
    layers: Mapping[str, Layer] | None = None,
    *,
    layout: str = "HWIO",
    share: float = 0.9,
    top: int = 10,
    below: float = 0.5,
) -> Change:
    """How each matrix of a model changed.

    A convolution's kernel is the matrix [taps·I, O].

    Args:
      start: pytree of arrays, W₀.
      end: pytree of the same structure and shapes, W. Leaves that are no layers may be missing.
      layers: the leaves that are kernels, by name, as `spectra.layers(apply_fn, start, inputs)`
        finds them; None: leaves of two to five axes, by `layout`.
      layout: "HWIO", inputs before outputs as in Flax and Haiku, or "OIHW", outputs first as in
        PyTorch and Equinox; for `layers=None`.
      share: of ‖Δ‖² for `rank`, between 0 and 1.
      top: singular vectors of W that are looked at, at least 1.
      below: cosine under which one counts as an intruder, 0 … 1. The paper varies it; 0.5 is ours.

    Returns:
      `Change`, layers in the order of `layers` or of the leaves.

    Raises:
      ValueError: at call, for a layer that one of them lacks or has in another shape (each named),
        an unknown layout, and options out of range.

    Numerics: float64 on the host, from Gram matrices: singular values to about 1e-8 of the largest,
      so that a condition above 1e8 says no more than that. A matrix that is not finite gives NaN,
      with rank and intruders 0.
    Cost: three Gram matrices a layer, of the smaller side, and their eigenvalues; two of them with
      vectors.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import parameters
    >>> start = {"tuned": jnp.eye(8), "scaled": jnp.eye(8)}
    >>> end = {"tuned": jnp.eye(8).at[0, 1].add(2.0), "scaled": 3 * jnp.eye(8)}
    >>> found = parameters.change.of_layers(start, end)
    >>> for name, rank, scale in zip(found.layers, found.rank, found.scale, strict=True):
    ...     print(name, rank, scale.round(3))
    scaled 8 3.0
    tuned 1 1.0
    """
    if not 0 < share < 1 or not 0 <= below <= 1 or top < 1:
        raise ValueError(
            "expected a share between 0 and 1, below of 0 … 1 and top of at least 1, got "
            f"{share}, {below} and {top}"
        )
    if layers is None:
        layers, _ = by_shape(start, layout)
    before, after = tree.named_leaves(start), tree.named_leaves(end)
    problems = [
        f"  {name}: {_shape(before, name)} in start, {_shape(after, name)} in end"
        for name in layers
        if name not in before or _shape(before, name) != _shape(after, name)
    ]
    if problems:
        raise ValueError("expected the same layers in start and end, got\n" + "\n".join(problems))
    rows = [
        _of_matrix(_matrix(layer, before[name]), _matrix(layer, after[name]), share, top, below)
        for name, layer in layers.items()
    ]
    kinds = {"rank": np.int64, "full_rank": np.int64, "intruders": np.int64}
    found = {
        name: np.array([row[name] for row in rows], kinds.get(name, np.float64))
        for name in Change._fields
        if name not in ("layers", "summaries")
    }
    found["nearest"] = found["nearest"].reshape(len(rows), top)
    summaries = _spectral_summary.stacked([row["summary"] for row in rows])
    return Change(layers=tuple(layers), summaries=summaries, **found)


def _shape(leaves: Mapping[str, Any], name: str) -> list[int] | str:
    return list(np.shape(leaves[name])) if name in leaves else "missing"


def _matrix(layer: Layer, leaf: Any) -> Float[np.ndarray, "I O"]:
    kernel = layer.kernel(leaf)
    return kernel.reshape(-1, kernel.shape[-1])


def _of_matrix(
    before: Float[np.ndarray, "I O"],
    after: Float[np.ndarray, "I O"],
    share: float,
    top: int,
    below: float,
) -> dict[str, Any]:
    """The fields of `Change` of one matrix, with its own "summary"."""
    sides = np.array(before.shape)
    found: dict[str, Any] = {
        "full_rank": sides.min(),
        "as_noise": sides.prod() / np.square(np.sqrt(sides).sum()),
        "chance": 1 / np.sqrt(sides.prod()),
    }
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        undefined = dict.fromkeys(("relative", "cosine", "scale", "spectra"), np.nan)
        none = {"rank": 0, "intruders": 0, "nearest": np.full(top, np.nan)}
        return found | undefined | none | {"summary": _spectral_summary.summary(np.full(1, np.nan))}
    change = after - before
    norm, new_norm = np.linalg.norm(before), np.linalg.norm(after)
    with np.errstate(divide="ignore", invalid="ignore"):
        product = np.vdot(before / norm, after)
        found["relative"] = np.linalg.norm(change) / norm
        found["cosine"] = np.clip(product / new_norm, -1, 1)
        found["scale"] = product / norm
        values = np.sqrt(_squares(np.linalg.eigvalsh(_gram(change))))
        held = np.cumsum(np.square(values / values[0]))
        old, basis = _directions(before)
        new, directions = _directions(after)
        found["spectra"] = np.abs(new - old).max() / old[0]
    found["rank"] = np.searchsorted(held, share * held[-1]) + 1 if values[0] else 0
    cosines = np.abs(directions[:top] @ basis.T).max(1, initial=0)
    found["nearest"] = np.full(top, np.nan)
    found["nearest"][: len(cosines)] = np.minimum(cosines, 1)
    found["intruders"] = np.sum(cosines < below)
    return found | {"summary": _spectral_summary.summary(values)}


def _directions(
    matrix: Float[np.ndarray, "I O"],
) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, "rank O"]]:
    """All singular values, and the singular vectors of the outputs of those that are not 0."""
    squares, vectors = np.linalg.eigh(_gram(matrix))
    values = np.sqrt(_squares(squares))
    known = values > SMALLEST * values[0]
    kept = vectors[:, ::-1][:, known]
    if matrix.shape[0] < matrix.shape[1]:  # of the inputs, from which those of the outputs follow
        kept = matrix.T @ kept / values[known]
    return values, kept.T


def _gram(matrix: Float[np.ndarray, "I O"]) -> Float[np.ndarray, "least least"]:
    """The products of its columns, or of its rows where these are fewer."""
    return matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix


def _squares(eigenvalues: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
    """Eigenvalues of a Gram matrix, falling and at least 0."""
    return np.maximum(eigenvalues[::-1], 0)
