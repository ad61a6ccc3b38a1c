"""The convolution and the max pooling of all models.

On CPU the form of a convolution is chosen by its shape (`cpu_form`); elsewhere it is always
XLA's. All forms are sums of the same products, so they agree to rounding, and all consist of
ordinary differentiable operations: any mix of jit, vmap, jvp, grad and lax.map works.
"""

import functools
import itertools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

VECTOR = 16
"""Float32 lanes of the widest common CPU vector: fewer output channels leave lanes idle."""

FEW_INPUTS = 4
"""Input channels (grey or colour images) up to which four vectors of outputs pay."""

TINY_OUTPUT = 4
"""Output pixels up to which XLA's convolution, or its gradient, falls to about 2 GFLOP/s."""


class Conv(nn.Module):
    """Convolution without bias: [B, H, W, C_in] -> [B, H', W', features].

    The window is size x size, padded by size // 2 on each side: H' = ceil(H / stride) for odd
    sizes. The kernel is a float32 parameter [size, size, C_in, features].
    """

    features: int
    size: int
    stride: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The convolution of x [B, H, W, C_in], in the dtype of x."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        return conv2d(x, kernel.astype(x.dtype), stride=self.stride, padding=self.size // 2)


def conv2d(x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0) -> jax.Array:
    """Two-dimensional cross-correlation (what networks call a convolution).

    y[b, i, j, o] = sum over u, v, c of x[b, stride i + u - padding, stride j + v - padding, c]
    kernel[u, v, c, o], where x is zero outside its borders.

    Args:
      x: float [B, H, W, C].
      kernel: [kh, kw, C, O] of the dtype of x.
      stride: of both axes, at least 1.
      padding: zeros on each of the four sides, at least 0.

    Returns:
      [B, H', W', O] in the dtype of x, H' = (H + 2 padding - kh) // stride + 1.

    Numerics: on CPU the order of the sums depends on the shapes; forms differ by rounding only.
    """
    form = cpu_form(x.shape, kernel.shape, stride=stride, padding=padding)

    def on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
        y = form(_kept(x), kernel, stride=stride, padding=padding)
        return _with_kept_gradient(y)

    plain = functools.partial(_plain, stride=stride, padding=padding)
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=plain)


def cpu_form(
    x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], *, stride: int, padding: int
) -> Callable[..., jax.Array]:
    """The form that is fastest on CPU for these shapes, gradients included.

    Measured on two cores with AVX-512 (jax 0.10.2, float32), against XLA's convolution:

    - 1x1 windows are a matrix product: equal forward, kernel gradients 2 to 5 times faster;
    - few output pixels, or an image smaller than the window, are a matrix product for each output
      pixel: 10 to 100 times faster, and taps that only see padding are left out;
    - at most 8 channels at stride 1: several output columns at once as channels, 1.7 to 9 times
      faster although a part of the products is with zeros. (Kernel gradients stay XLA's, which no
      other form beat.)
    """
    _, height, width, channels = x_shape
    size_h, size_w, _, features = kernel_shape
    out_h = (height + 2 * padding - size_h) // stride + 1
    out_w = (width + 2 * padding - size_w) // stride + 1
    if min(out_h, out_w) < 1:
        return _plain
    if size_h == size_w == 1 and padding == 0:
        return _pointwise
    if height * width < size_h * size_w or out_h * out_w <= TINY_OUTPUT:
        return _by_pixel
    narrow = min(channels, features) <= VECTOR // 2 and min(width, out_w) >= VECTOR
    if stride == 1 and narrow and size_h == size_w > padding:
        return _widened
    return _plain


def _plain(x: jax.Array, kernel: jax.Array, *, stride: int, padding: int) -> jax.Array:
    """XLA's convolution."""
    return _xla(x, kernel, (stride, stride), ((padding, padding), (padding, padding)))


def _pointwise(x: jax.Array, kernel: jax.Array, *, stride: int, padding: int) -> jax.Array:
    """A 1x1 window: the pixels that are read, times the kernel."""
    del padding  # 0, or `cpu_form` had chosen another form
    return _product(x[:, ::stride, ::stride], kernel[0, 0])


def _by_pixel(x: jax.Array, kernel: jax.Array, *, stride: int, padding: int) -> jax.Array:
    """For each output pixel, the part of x that its window sees times those taps."""
    batch, height, width, _ = x.shape
    size_h, size_w, _, features = kernel.shape
    out_h = (height + 2 * padding - size_h) // stride + 1
    out_w = (width + 2 * padding - size_w) // stride + 1
    pixels = []
    for i, j in itertools.product(range(out_h), range(out_w)):
        rows, taps_h = _seen(stride * i - padding, size_h, height)
        columns, taps_w = _seen(stride * j - padding, size_w, width)
        seen, taps = x[:, rows, columns], kernel[taps_h, taps_w]
        terms = math.prod(seen.shape[1:])
        pixels.append(_product(seen.reshape(batch, terms), taps.reshape(terms, features)))
    return jnp.stack(pixels, axis=1).reshape(batch, out_h, out_w, features)


def _seen(start: int, size: int, length: int) -> tuple[slice, slice]:
    """The pixels of an axis under a window that begins at `start`, and the taps over them."""
    first, end = max(start, 0), max(min(start + size, length), 0)
    return slice(first, end), slice(first - start, max(end, first) - start)


def _widened(x: jax.Array, kernel: jax.Array, *, stride: int, padding: int) -> jax.Array:
    """Stride 1 with few output channels, a form whose gradient to x is of the same kind."""
    del stride  # 1, or `cpu_form` had chosen another form
    return _columns_as_channels(padding, x, kernel)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _columns_as_channels(padding: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Several neighbouring output columns at once, as channels of a wider window.

    Neighbours read shifted windows; a window that spans them all, with zeros where one does not
    read, gives [..., W' / columns, columns O], which is [..., W', O] in memory.
    """
    size_h, size_w, channels, features = kernel.shape
    columns = VECTOR * (4 if channels <= FEW_INPUTS else 1) // features
    if columns <= 1:
        return _plain(x, kernel, stride=1, padding=padding)
    shifted = [
        jnp.pad(kernel, ((0, 0), (i, columns - 1 - i), (0, 0), (0, 0))) for i in range(columns)
    ]
    wide = jnp.stack(shifted, axis=3)
    wide = wide.reshape(size_h, size_w + columns - 1, channels, columns * features)
    out_w = x.shape[2] + 2 * padding - size_w + 1
    surplus = -out_w % columns
    y = _xla(x, wide, (1, columns), ((padding, padding), (padding, padding + surplus)))
    return y.reshape(*y.shape[:2], out_w + surplus, features)[:, :, :out_w]


@_columns_as_channels.defjvp
def _columns_as_channels_jvp(
    padding: int, primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The tangents are linear maps whose transposes, the gradients, are in their fastest forms."""
    x, kernel = primals
    dx, dkernel = tangents
    y = _columns_as_channels(padding, x, kernel)
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    back = functools.partial(_columns_as_channels, kernel.shape[0] - 1 - padding, kernel=flipped)
    (from_x,) = jax.linear_transpose(back, y)(dx)
    return y, from_x + _plain(x, dkernel, stride=1, padding=padding)


@jax.custom_jvp
def _kept(x: jax.Array) -> jax.Array:
    """x, in a form that XLA keeps in memory rather than computing again at each use.

    A kernel's gradient reads x in transposed order. Where x is a sum or a relu, XLA on CPU
    repeats what leads to it, several blocks back, element by element in that order: a sixth of a
    training step. (Optimization barriers are gone before its fusions are made.)
    """
    return lax.select(_always(x), x, jnp.zeros_like(x))


@_kept.defjvp
def _kept_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    return _kept(*primals), tangents[0]


@jax.custom_jvp
def _with_kept_gradient(y: jax.Array) -> jax.Array:
    """y, whose gradient is kept in memory as `_kept` does: both of a convolution's read it."""
    return y


@_with_kept_gradient.defjvp
def _with_kept_gradient_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (y,), (dy,) = primals, tangents
    return y, lax.select(_always(y), dy, jnp.zeros_like(dy))


def _always(x: jax.Array) -> jax.Array:
    """True everywhere, which XLA does not see.

    A select on it has two inputs in XLA's eyes, and XLA repeats only what has one.
    """
    return (x == x) | (x != x)


def _product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    return lax.dot_general(x, matrix, (((x.ndim - 1,), (0,)), ((), ())))


def _xla(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def max_pool(x: jax.Array) -> jax.Array:
    """Maximum over 3x3 windows with stride 2 and padding 1.

    On CPU by shifted slices: the gradient of XLA's window reduction is 10 to 35 times slower.

    Args:
      x: float [B, H, W, C].

    Returns:
      [B, ceil(H / 2), ceil(W / 2), C] in the dtype of x. NaN in a window gives NaN. Where a window
      holds its maximum more than once, the gradient goes to the first in reading order.
    """
    return lax.platform_dependent(x, cpu=_max_of_slices, default=_max_of_windows)


def _max_of_windows(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (2, 2), [(1, 1), (1, 1)])


def _max_of_slices(x: jax.Array) -> jax.Array:
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    out_h, out_w = (x.shape[1] + 1) // 2, (x.shape[2] + 1) // 2
    largest = padded[:, : 2 * out_h - 1 : 2, : 2 * out_w - 1 : 2]
    for u, v in list(itertools.product(range(3), range(3)))[1:]:
        tap = padded[:, u : u + 2 * out_h - 1 : 2, v : v + 2 * out_w - 1 : 2]
        largest = jnp.where((tap > largest) | jnp.isnan(tap), tap, largest)
    return largest
