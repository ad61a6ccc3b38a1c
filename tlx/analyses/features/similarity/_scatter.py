"""The arithmetic of streamed second moments: the state after a batch, shifted and merged.

The layers of a model stand side by side as columns of one matrix. With z, w the rows of two
layers about their means and k = ‖z‖², l = ‖w‖², moving the origins by −d and −e makes them
z + d, w + e, k + 2d·z + ‖d‖² and l + 2e·w + ‖e‖²; since Σ z = 0 and Σ w = 0 the sums of their
products follow from the sums before. Two states merge by moving both to the common mean.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tlx.core import scale

_HIGHEST = jax.lax.Precision.HIGHEST
_LOW_BITS = 24


class Columns(NamedTuple):
    """The columns of L layers; ΣD columns in total."""

    dims: tuple[int, ...]

    @property
    def owner(self) -> Int[np.ndarray, " ΣD"]:
        """The layer of each column."""
        return np.repeat(np.arange(len(self.dims)), self.dims)

    @property
    def members(self) -> Bool[np.ndarray, "ΣD L"]:
        """Whether a column belongs to a layer."""
        return self.owner[:, None] == np.arange(len(self.dims))[None, :]

    @property
    def slices(self) -> list[slice]:
        """The columns of each layer."""
        ends = list(itertools.accumulate(self.dims, initial=0))
        return [slice(a, b) for a, b in itertools.pairwise(ends)]

    def apart(self, values: Float[Array, " ΣD"]) -> Float[Array, "ΣD L"]:
        """A vector over all columns as one vector per layer, zero outside of its columns."""
        return jnp.where(self.members, values[:, None], 0)

    def exponents(self, values: Float[Array, " ΣD"]) -> Int[Array, " L"]:
        """The exponent of each layer's largest absolute value; `scale.NO_SCALE` for zeros."""
        most = jnp.max(self.apart(jnp.abs(values)), axis=0, initial=0)
        return jnp.where(most == 0, scale.NO_SCALE, jnp.frexp(most)[1]).astype(jnp.int32)

    def scaled(self, values: Array, exponent: Int[Array, " L"]) -> Array:
        """Values [..., ΣD] in units of 2^exponent; zeros stay zeros."""
        back = jnp.where(exponent == scale.NO_SCALE, 0, -exponent)
        half = back // 2  # 2^back itself may overflow
        for part in (half, back - half):
            values = values * scale.power_of_two(part)[self.owner].reshape(
                (1,) * (values.ndim - 1) + (-1,)
            )
        return values


class Place(NamedTuple):
    """The origins of the L layers of one model, and the units of their sums.

    Attributes:
      origin: float [ΣD], a row of each layer; like `mean`, in the units of the features.
      mean: float [ΣD], of the rows less the origin, so that a large offset costs no accuracy.
      exponent: int32 [L]; rows of the layer are in units of 2^exponent.
      finite: bool [L], whether every value was finite; if not, the layer's sums are meaningless.
    """

    origin: Float[Array, " ΣD"]
    mean: Float[Array, " ΣD"]
    exponent: Int[Array, " L"]
    finite: Bool[Array, " L"]


class Own(NamedTuple):
    """The sums within each of the L layers of one model, over its rows z.

    Attributes:
      scatter: for each layer float [D, D], Σ z zᵀ.
      cubes: float [ΣD], Σ k z.
      squares: float [L], Σ k².
    """

    scatter: tuple[Float[Array, "D D"], ...]
    cubes: Float[Array, " ΣD"]
    squares: Float[Array, " L"]


class Crossed(NamedTuple):
    """The sums for all pairs of a layer of x and a layer of y.

    Attributes:
      scatter: float [ΣDx, ΣDy], Σ z wᵀ.
      norms_x: float [Lx, ΣDy], Σ k w.
      norms_y: float [ΣDx, Ly], Σ l z.
      norms: float [Lx, Ly], Σ k l.
    """

    scatter: Float[Array, "ΣDx ΣDy"]
    norms_x: Float[Array, "Lx ΣDy"]
    norms_y: Float[Array, "ΣDx Ly"]
    norms: Float[Array, "Lx Ly"]


class Sums(NamedTuple):
    """All sums over the examples."""

    x: Own
    y: Own
    xy: Crossed


class Count(NamedTuple):
    """A number of rows, low + 2^24·high with low below 2^24.

    The positions of images can exceed an int32 as rows, and a float32 drops small counts.
    """

    high: Int[Array, ""]
    low: Int[Array, ""]

    def as_float(self, dtype: jnp.dtype) -> Float[Array, ""]:
        """The number, up to rounding; exact below 2^24."""
        return self.high.astype(dtype) * 2**_LOW_BITS + self.low.astype(dtype)


class State(NamedTuple):
    """The sums over the examples so far; `rows` is their number."""

    rows: Count
    x: Place
    y: Place
    sums: Sums


def nothing(columns: tuple[Columns, Columns]) -> State:
    """The state before any example."""
    dtype = jnp.result_type(float)
    (wide_x, wide_y), (num_x, num_y) = ([f(c.dims) for c in columns] for f in (sum, len))

    def side(dims: tuple[int, ...]) -> tuple[Place, Own]:
        wide, num = jnp.zeros(sum(dims), dtype), len(dims)
        place = Place(wide, wide, jnp.full(num, scale.NO_SCALE, jnp.int32), jnp.ones(num, bool))
        return place, Own(
            tuple(jnp.zeros((d, d), dtype) for d in dims), wide, jnp.zeros(num, dtype)
        )

    (x, own_x), (y, own_y) = (side(c.dims) for c in columns)
    shapes = ((wide_x, wide_y), (num_x, wide_y), (wide_x, num_y), (num_x, num_y))
    xy = Crossed(*(jnp.zeros(shape, dtype) for shape in shapes))
    none = jnp.zeros((), jnp.int32)
    return State(Count(none, none), x, y, Sums(own_x, own_y, xy))


def of_rows(x: Array, y: Array, mask: Bool[Array, " R"], columns: tuple[Columns, Columns]) -> State:
    """The state after the unmasked rows of x [R, ΣDx] and y [R, ΣDy]."""
    place_x, z, k = _placed(x, mask, columns[0])
    place_y, w, l_ = _placed(y, mask, columns[1])
    xy = Crossed(_dot(z.T, w), _dot(k.T, w), _dot(z.T, l_), _dot(k.T, l_))
    sums = Sums(_own(z, k, columns[0]), _own(w, l_, columns[1]), xy)
    none = jnp.zeros((), jnp.int32)
    return State(_carried(none, jnp.sum(mask, dtype=jnp.int32)), place_x, place_y, sums)


def _carried(high: Array, low: Array) -> Count:
    """The count in normal form."""
    return Count(high + (low >> _LOW_BITS), low & (2**_LOW_BITS - 1))


def _placed(rows: Array, mask: Array, columns: Columns) -> tuple[Place, Array, Array]:
    """The place, the scaled rows about their mean [R, ΣD] and their squared norms [R, L]."""
    origin = jax.lax.dynamic_slice_in_dim(rows, jnp.argmax(mask), 1)
    z = jnp.where(mask[:, None], rows - origin, 0)
    mean = _dot(jnp.ones((1, len(z)), z.dtype), z) / jnp.maximum(mask.sum(), 1).astype(z.dtype)
    z = jnp.where(mask[:, None], z - mean, 0)
    broken = jnp.any(~jnp.isfinite(z), axis=0)
    finite = ~jnp.any(columns.members & broken[:, None], axis=0)
    # in a product with the others, a layer's NaN or infinity would affect them as well
    use = finite[columns.owner] & mask.any()
    origin, mean = (jnp.where(use, row[0], 0) for row in (origin, mean))
    z = jnp.where(use[None, :], z, 0)
    exponent = columns.exponents(jnp.max(jnp.abs(z), axis=0, initial=0))
    z = columns.scaled(z, exponent)
    k = _dot(jnp.square(z), jnp.asarray(columns.members, z.dtype))
    return Place(origin, mean, exponent, finite), z, k


def _own(z: Array, k: Array, columns: Columns) -> Own:
    scatter = tuple(_dot(z[:, part].T, z[:, part]) for part in columns.slices)
    return Own(scatter, (k[:, columns.owner] * z).sum(0), jnp.square(k).sum(0))


def merge(s: State, t: State, columns: tuple[Columns, Columns]) -> State:
    """The state of both sets of examples."""
    dtype = s.x.mean.dtype
    rows = (s.rows.as_float(dtype), t.rows.as_float(dtype))
    x, gap_x = _meeting(s.x, t.x, rows, columns[0])
    y, gap_y = _meeting(s.y, t.y, rows, columns[1])
    share = _share(rows)
    moved = []
    for state, n, part in ((s, rows[0], -share), (t, rows[1], 1 - share)):
        factors = [
            scale.power_of_two(old.exponent - new.exponent)
            for old, new in ((state.x, x), (state.y, y))
        ]
        sums = _rescaled(state.sums, factors, columns)
        moved.append(_moved(sums, n, (part * gap_x, part * gap_y), columns))
    count = _carried(s.rows.high + t.rows.high, s.rows.low + t.rows.low)
    return State(count, x, y, jax.tree.map(jnp.add, *moved))


def _share(rows: tuple[Array, Array]) -> Array:
    """The second of two numbers of rows as a share of both; 0 where both are 0."""
    return rows[1] / jnp.maximum(rows[0] + rows[1], 1)


def _meeting(
    s: Place, t: Place, rows: tuple[Array, Array], columns: Columns
) -> tuple[Place, Array]:
    """The common place, and the difference from the mean of s to that of t in the new units."""
    some, more = rows[0] > 0, rows[1] > 0
    gap = jnp.where(some & more, (t.origin - s.origin) + (t.mean - s.mean), 0)
    exponent = jnp.maximum(columns.exponents(jnp.abs(gap)), jnp.maximum(s.exponent, t.exponent))
    origin = jnp.where(some, s.origin, t.origin)
    mean = jnp.where(some, s.mean + _share(rows) * gap, t.mean)
    place = Place(origin, mean, exponent, s.finite & t.finite)
    return place, columns.scaled(gap, exponent)


def _rescaled(sums: Sums, factors: list[Array], columns: tuple[Columns, Columns]) -> Sums:
    """The sums in coarser units; `factors` [L] are the old units in terms of the new ones."""
    (x, y), xy = factors, sums.xy
    wide_x, wide_y = (f[c.owner] for f, c in zip(factors, columns, strict=True))
    own = [
        Own(
            tuple(block * f**2 for block, f in zip(part.scatter, factor, strict=True)),
            part.cubes * wide**3,
            part.squares * factor**4,
        )
        for part, factor, wide in ((sums.x, x, wide_x), (sums.y, y, wide_y))
    ]
    crossed = Crossed(
        xy.scatter * jnp.outer(wide_x, wide_y),
        xy.norms_x * jnp.outer(x**2, wide_y),
        xy.norms_y * jnp.outer(wide_x, y**2),
        xy.norms * jnp.outer(x**2, y**2),
    )
    return Sums(own[0], own[1], crossed)


def _moved(sums: Sums, n: Array, by: tuple[Array, Array], columns: tuple[Columns, Columns]) -> Sums:
    """The sums of n examples for rows z + d and w + e instead of z and w; by = (d, e)."""
    (d, e), xy = by, sums.xy
    x, k, dd = _own_moved(sums.x, n, d, columns[0])
    y, l_, ee = _own_moved(sums.y, n, e, columns[1])
    # each layer's part of d and e as a separate column
    d_apart, e_apart = columns[0].apart(d), columns[1].apart(e)
    along_x, along_y = _dot(d_apart.T, xy.scatter), _dot(xy.scatter, e_apart)
    norms = xy.norms + 2 * _dot(xy.norms_x, e_apart) + 2 * _dot(d_apart.T, xy.norms_y)
    norms = norms + 4 * _dot(d_apart.T, along_y)
    norms = norms + jnp.outer(k, ee) + jnp.outer(dd, l_) + n * jnp.outer(dd, ee)
    crossed = Crossed(
        xy.scatter + n * jnp.outer(d, e),
        xy.norms_x + 2 * along_x + jnp.outer(k + n * dd, e),
        xy.norms_y + 2 * along_y + jnp.outer(d, l_ + n * ee),
        norms,
    )
    return Sums(x, y, crossed)


def _own_moved(own: Own, n: Array, d: Array, columns: Columns) -> tuple[Own, Array, Array]:
    """One model's sums for rows z + d; the Σ k [L] before the shift, and ‖d‖² [L]."""
    k = jnp.stack([jnp.trace(block) for block in own.scatter])
    dd = jnp.square(columns.apart(d)).sum(0)
    parts = [d[part] for part in columns.slices]
    blocks = list(zip(own.scatter, parts, strict=True))
    along = jnp.concatenate([_dot(block, part) for block, part in blocks])
    per_layer = columns.apart(4 * d * own.cubes + 4 * d * along).sum(0)
    moved = Own(
        tuple(block + n * jnp.outer(part, part) for block, part in blocks),
        own.cubes + 2 * along + d * (k + n * dd)[columns.owner],
        own.squares + per_layer + 2 * dd * k + n * dd**2,
    )
    return moved, k, dd


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=_HIGHEST)
