"""Singular values of matrices and of circular convolutions, and checks of their arguments."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits

_BLOCK = 2**22  # complex numbers of the matrices that are decomposed at once: 64 MiB


def real(kernel: Any, least: int, most: int) -> Float[np.ndarray, "..."]:
    """A kernel as float64; an error unless it is real with a number of axes in a range."""
    kernel = np.asarray(kernel)
    if np.iscomplexobj(kernel):
        raise TypeError(f"expected a real kernel, got {kernel.dtype}")
    if not least <= kernel.ndim <= most:
        axes = f"{least}" if least == most else f"{least} to {most}"
        raise ValueError(f"expected a kernel of {axes} axes, got shape {kernel.shape}")
    return kernel.astype(np.float64)


def each(name: str, value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """A length for each axis of space, at least 1."""
    lengths = (value,) * axes if isinstance(value, int) else tuple(int(n) for n in value)
    if len(lengths) != axes or min(lengths) < 1:
        raise ValueError(f"expected {name} of {axes} numbers of at least 1, got {value}")
    return lengths


def check_groups(kernel: np.ndarray, groups: int) -> None:
    """An error unless groups divide a kernel's outputs."""
    if groups < 1 or kernel.shape[-1] % groups:
        raise ValueError(f"expected groups that divide {kernel.shape[-1]} outputs, got {groups}")


def singular_values(matrices: np.ndarray) -> np.ndarray:
    """Falling singular values [..., min(I, O)] of matrices [..., I, O]; NaN if not finite."""
    if not np.isfinite(matrices).all():
        return np.full((*matrices.shape[:-2], min(matrices.shape[-2:])), np.nan)
    # LAPACK's threads gain nothing on many small matrices, and where other work shares the cores
    # they wait for each other hundreds of times as long as they compute
    with threadpool_limits(limits=1, user_api="blas"):
        return np.linalg.svd(matrices, compute_uv=False)


def circular(
    kernel: Float[np.ndarray, "*taps I O"],
    size: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> tuple[Float[np.ndarray, " R"], Int[np.ndarray, " R"]]:
    """Falling singular values of a circular convolution, and how often each occurs."""
    *taps, inputs, outputs = kernel.shape
    if not np.isfinite(kernel).all():
        kernel = np.full(kernel.shape, np.nan)
    # an axis with one tap is the same at all its frequencies
    seen = tuple(n if t > 1 else 1 for n, t in zip(size, taps, strict=True))
    frequencies, times = _half(seen)
    times = times * (math.prod(size) // math.prod(seen))
    places = np.indices(taps).reshape(len(taps), -1).T * np.asarray(dilation)
    flat = kernel.reshape(len(places), -1)
    grouped = (inputs, groups, outputs // groups)
    found = [
        singular_values((waves @ flat).reshape(-1, *grouped).swapaxes(1, 2)).reshape(len(waves), -1)
        for waves in _waves(frequencies, places, seen, max(1, _BLOCK // max(1, flat.shape[1])))
    ]
    values = np.concatenate(found)
    repeated = np.repeat(times, values.shape[1])
    order = np.argsort(-values, axis=None, kind="stable")
    return values.ravel()[order], repeated[order]


def _half(size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Of each pair of frequencies f and −f one [F, axes], and the pair's size [F], 1 or 2.

    A real kernel has complex conjugate matrices at both, hence the same singular values.
    """
    grid = np.indices(size).reshape(len(size), -1)
    other = np.ravel_multi_index(tuple(-grid % np.array(size)[:, None]), size)
    this = np.arange(len(other))
    return grid.T[this <= other], np.where(this == other, 1, 2)[this <= other]


def _waves(
    frequencies: np.ndarray, places: np.ndarray, size: tuple[int, ...], block: int
) -> Iterator[np.ndarray]:
    """exp(−2πi f·t / n) [block, taps]: with few taps a product is faster than an FFT.

    Phases are reduced as integers: no digits are lost, and taps beyond the size go around.
    """
    for i in range(0, len(frequencies), block):
        turns = frequencies[i : i + block, None] * places[None] % np.array(size) / np.array(size)
        waves = np.exp(-2j * np.pi * turns.sum(-1))
        yield waves if waves.imag.any() else waves.real
