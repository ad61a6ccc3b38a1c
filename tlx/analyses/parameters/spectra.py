"""The singular values of a net's layers: how far each stretches, in how many directions.

A convolution can be seen as three matrices: its kernel as one matrix [H·W·I, O] ("reshaped");
the circular convolution of entire feature maps ("circular"), whose spectrum is exact by Fourier
transform; and the map as in the net, with its stride and padding ("operator"). Results state
which.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.parameters import _conv_operator, _conv_spectrum, _spectral_summary
from tlx.analyses.parameters._conv_operator import Geometry, Top
from tlx.analyses.parameters._conv_spectrum import check_groups, each, real, singular_values
from tlx.analyses.parameters._leaf_matrices import Layer, by_shape, layers, unused
from tlx.analyses.parameters._spectral_summary import Summary, summary
from tlx.core import checks, host, public, shown, tree
from tlx.core.types import ApplyFn, Params

__dir__ = public.names(__name__)

__all__ = ["Layer", "Spectra", "Summary", "Top", "by_layer", "circular", "dense", "layers",
           "of_model", "operator", "reshaped", "summary"]  # fmt: skip

KINDS = ("circular", "reshaped", "operator")


@shown.short
class Spectra(NamedTuple):
    """Singular values of the layers of a model, L of them.

    Attributes:
      layers: the names of their leaves.
      kind: "circular", "reshaped" or "operator": how convolutions are seen.
      is_conv: bool [L]; the others are dense layers, the same in each kind.
      values: leaf name to float64 [R], falling: distinct ones ("operator": the largest).
      multiplicities: leaf name to int64 [R], how often each value occurs: those of a circular
        convolution come in pairs, and those of a 1x1 kernel once a pixel.
      residuals: leaf name to float64 [R], see `Top`; of convolutions for "operator" only.
      summaries: `Summary` of arrays [L]; for "operator" what needs all values is NaN.
      passed_over: floating leaves of at least two axes that were not recognised as a layer, or
        are complex.
    """

    layers: tuple[str, ...]
    kind: str
    is_conv: np.ndarray
    values: dict[str, np.ndarray]
    multiplicities: dict[str, np.ndarray]
    residuals: dict[str, np.ndarray]
    summaries: Summary
    passed_over: tuple[str, ...]


@host.only
def dense(kernel: Float[Array, "I O"]) -> Float[np.ndarray, " R"]:
    """The singular values of a dense layer's kernel: float64 [min(I, O)], falling.

    Args:
      kernel: real [I, O].

    Returns:
      float64 [min(I, O)]; NaN if the kernel is not finite.

    Raises:
      ValueError: at call, for a kernel without two axes.
      TypeError: at call, for a complex kernel.

    Numerics: LAPACK's in float64: each value to about 1e-15·σ₁.
    Cost: O(I·O·min(I, O)) on the host.
    """
    return singular_values(real(kernel, 2, 2))


@host.only
def reshaped(kernel: Float[Array, "*taps I O"]) -> Float[np.ndarray, " R"]:
    """The singular values of a convolution's kernel as a matrix [taps·I, O].

    Args:
      kernel: real [W, I, O], [H, W, I, O] or [D, H, W, I, O].

    Returns:
      float64 [min(taps·I, O)], falling; NaN if the kernel is not finite.

    Raises:
      ValueError: at call, for a kernel without three to five axes.
      TypeError: at call, for a complex kernel.

    Numerics, cost: as `dense`.
    """
    taps = real(kernel, 3, 5)
    return singular_values(taps.reshape(-1, taps.shape[-1]))


@host.only
def circular(
    kernel: Float[Array, "*taps I O"],
    size: Sequence[int],
    *,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Float[np.ndarray, " R"]:
    """All singular values of a circular convolution with stride 1.

    Those of the matrices K(f) [I, O] = Σ_t K[t]·exp(−2πi Σ_a f_a t_a / n_a) over the frequencies
    f of feature maps of size n. A kernel that is larger than the maps goes around them.

    Args:
      kernel: real [*taps, I, O], one to three axes of taps.
      size: of the feature maps, one length an axis of taps.
      dilation: of the kernel, of all axes or one an axis.
      groups: of channels; I is the channels of one group.

    Returns:
      float64 [min(I, O / groups)·groups·Π size], falling; the sum of their squares is
      Π size·‖K‖² where no two taps coincide. NaN if the kernel is not finite.

    Raises:
      ValueError: at call, for a kernel without three to five axes, a size or dilation below 1
        or of another length, and groups that do not divide O.
      TypeError: at call, for a complex kernel.

    Numerics: float64, each value to about 1e-14·σ₁: no Gram matrix loses digits.
    Cost: one decomposition for each pair of frequencies f and −f; along an axis with one tap
      all frequencies are one. Blocks of about 64 MiB, one thread of LAPACK.
    References: Sedghi, Gupta, Long 2019, "The singular values of convolutional layers".

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import parameters
    >>> mean_of_two = jnp.full((2, 1, 1), 0.5)  # over a line of 4 pixels: |cos(πf/4)|
    >>> print(parameters.spectra.circular(mean_of_two, [4]).round(2))
    [1.   0.71 0.71 0.  ]
    """
    weights = real(kernel, 3, 5)
    space = weights.ndim - 2
    lengths = each("size", size, space), each("dilation", dilation, space)
    check_groups(weights, groups)
    return np.repeat(*_conv_spectrum.circular(weights, *lengths, groups))


@host.only
def operator(
    kernel: Float[Array, "*taps I O"],
    size: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: str | Sequence[tuple[int, int]] = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    num_values: int = 8,
) -> Top:
    """The largest singular values of a convolution with its stride and padding.

    Args:
      kernel: real [*taps, I, O], one to three axes of taps.
      size: of the feature maps it reads, one length an axis of taps.
      strides: of all axes or one an axis.
      padding: "SAME", "VALID" or the zeros before and after, one pair an axis.
      dilation: of the kernel, of all axes or one an axis.
      groups: of channels; I is the channels of one group.
      num_values: k, at least 1; fewer come back where the map has fewer.

    Returns:
      `Top`. The residuals bound how far each value is from a singular value; that no larger one
      was missed is likely (the start is random) and not proven. NaN if the kernel is not finite.

    Raises:
      ValueError: at call, as `circular`, or for num_values below 1 or another number of pads.
      TypeError: at call, for a complex kernel.

    Numerics: products in float32 (float64 under jax_enable_x64): beside the residual about
      1e-6·σ₁. On large maps values lie so close that residuals stay at 1e-4·σ₁ to 5e-3·σ₁;
      the values themselves were then within 1e-5·σ₁ (random kernel, maps of 56x56).
    Cost: at most 40 blocks of k + 4 convolutions and as many transposed; (k + 4)·40 vectors of
      the smaller of inputs and outputs in memory. Stops where all residuals are below 1e-5·σ₁.
    References: Musco, Musco 2015, "Randomized block Krylov methods for stronger and faster
      approximate singular value decomposition".
    """
    weights = real(kernel, 3, 5)
    space = weights.ndim - 2
    size, steps = each("size", size, space), each("strides", strides, space)
    spread = each("dilation", dilation, space)
    check_groups(weights, groups)
    if num_values < 1:
        raise ValueError(f"expected num_values of at least 1, got {num_values}")
    window = tuple(d * (t - 1) + 1 for d, t in zip(spread, weights.shape, strict=False))
    pads = _conv_operator.explicit(padding, window, size, steps)
    if len(pads) != space:
        raise ValueError(f"expected {space} pairs of padding, one an axis of taps, got {padding}")
    return _conv_operator.top(weights, Geometry(size, steps, pads, spread, groups), num_values)


@host.only
def by_layer(
    params: Params,
    *,
    sizes: Mapping[str, Sequence[int]] | None = None,
    layout: str = "HWIO",
) -> Spectra:
    """The spectra of the weights of a pytree of parameters, classified by their number of axes.

    Two axes are a dense layer, three to five a convolution with one to three axes of space.
    Vectors are not weights, even with further axes of length 1 before theirs (after it in
    "OIHW"). `of_model` derives the role of each leaf from the model.

    Args:
      params: pytree of arrays; leaves that are not floating do not count, complex ones are
        passed over.
      sizes: leaf name to the size of the feature maps it reads, for each convolution: the kind
        is then "circular". None for "reshaped".
      layout: of the kernels: "HWIO" [*taps, I, O], or "OIHW" [O, I, *taps] and [Dout, Din].

    Returns:
      `Spectra`, layers in the order of the leaves; leaves of more than five axes are passed over.

    Raises:
      ValueError: at call, for an unknown layout, or sizes that do not name all convolutions and
        nothing else.

    Numerics, cost: as `circular` and `dense`.
    """
    found, passed_over = by_shape(params, layout)
    if sizes is not None:
        convs = [name for name, layer in found.items() if layer.kind == "conv"]
        for name in sizes:
            if name not in convs:
                raise ValueError(checks.unknown("convolution", name, convs))
        lacking = [name for name in convs if name not in sizes]
        if lacking:
            raise ValueError(
                f"expected the size of each convolution's feature maps, got none for "
                f"{', '.join(lacking)}; of_model derives them from the model"
            )
        found |= {
            name: found[name]._replace(size=each("size", sizes[name], len(found[name].strides)))
            for name in convs
        }
    return _spectra(params, found, "reshaped" if sizes is None else "circular", 0, passed_over)


@host.only
def of_model(
    apply_fn: ApplyFn, params: Params, inputs: Any, *, kind: str = "circular", num_values: int = 8
) -> Spectra:
    """The spectra of the layers that a model has for inputs of a shape.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      params: pytree of arrays.
      inputs: pytree of arrays or `jax.ShapeDtypeStruct`: only shapes and dtypes count, and of
        convolutions their size in space.
      kind: "circular" (at the size that each layer reads; strides and padding are left out),
        "reshaped" or "operator" (strides and padding as they are).
      num_values: how many values of each convolution, for "operator" only; at least 1.

    Returns:
      `Spectra`, layers from input to output (see `layers` for what is one).

    Raises:
      ValueError: at call, for an unknown kind or num_values below 1.

    Numerics, cost: as `circular`, `operator` and `dense`, and one trace of the model.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import parameters
    >>> def apply_fn(params, inputs):
    ...     return inputs @ params["even"] @ params["thin"]
    >>> params = {"even": 2 * jnp.eye(4), "thin": jnp.ones((4, 4))}  # of rank 1
    >>> found = parameters.spectra.of_model(apply_fn, params, jnp.ones((1, 4)))
    >>> for name, rank in zip(found.layers, found.summaries.stable_rank, strict=True):
    ...     print(name, abs(found.values[name].round(3)), rank.round(3))
    even [2. 2. 2. 2.] 4.0
    thin [4. 0. 0. 0.] 1.0
    """
    if kind not in KINDS:
        raise ValueError(checks.unknown("kind", kind, KINDS))
    if num_values < 1:
        raise ValueError(f"expected num_values of at least 1, got {num_values}")
    found = layers(apply_fn, params, inputs)
    return _spectra(params, found, kind, num_values, unused(params, found))


def _spectra(
    params: Params, found: Mapping[str, Layer], kind: str, num_values: int, passed_over: Any
) -> Spectra:
    """The spectra of the given kernels; sizes and geometry are known where `kind` needs them."""
    leaves = tree.named_leaves(params)
    values, multiplicities, residuals, summaries = {}, {}, {}, []
    for name, layer in found.items():
        kernel = layer.kernel(leaves[name])
        if kind == "operator" and layer.kind == "conv":
            geometry = Geometry(*layer[3:])
            top = _conv_operator.top(kernel, geometry, num_values)
            values[name], residuals[name] = top.values, top.residuals
            summaries.append(
                _spectral_summary.of_largest(top.values, top.frobenius_norm, top.num_values)
            )
        elif kind == "circular" and layer.kind == "conv":
            whole = _conv_spectrum.circular(kernel, layer.size, layer.dilation, layer.groups)
            values[name], multiplicities[name] = whole
            summaries.append(summary(*whole))
        else:
            values[name] = singular_values(kernel.reshape(-1, kernel.shape[-1]))
            summaries.append(summary(values[name]))
        multiplicities.setdefault(name, np.ones(len(values[name]), np.int64))
    return Spectra(
        tuple(found),
        kind,
        np.array([layer.kind == "conv" for layer in found.values()], bool),
        values,
        multiplicities,
        residuals,
        _spectral_summary.stacked(summaries),
        tuple(passed_over),
    )
