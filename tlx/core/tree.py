"""Arithmetic on pytrees of parameters, and the names of their leaves."""

import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tlx.core import public
from tlx.core.scale import times_power
from tlx.core.types import Params

__dir__ = public.names(__name__)


def names(tree: Any) -> tuple[str, ...]:
    """The name of each leaf in `jax.tree.leaves` order: the keys of its path, as "a/b/kernel".

    The key under which a box of Flax holds its value (a variable of NNX, metadata of Linen) is
    left out; keys of dicts and fields of other classes are not, whatever they are called.

    Raises:
      ValueError: if two leaves have the same name, since a key may hold a "/"; naming both paths.

    >>> from tlx.core import tree
    >>> tree.names({"head": {"kernel": 1.0, "value": 2.0}, "scales": [3.0]})
    ('head/kernel', 'head/value', 'scales/0')
    """
    found: dict[str, Any] = {}
    for path in _paths(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in found:
            first, second = map(jax.tree_util.keystr, (found[name], path))
            raise ValueError(
                f"expected leaves of different names, got more than one {name!r}: {first} and "
                f"{second}. A name joins the keys of a path with '/'; rename a key."
            )
        found[name] = path
    return tuple(found)


def _paths(tree: Any) -> Iterator[tuple[Any, ...]]:
    """The keys to each leaf, those of boxes left out."""
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_box):
        if not _is_box(node):
            yield path
            continue
        inside = jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda x, box=node: x is not box)
        for keys, child in inside:
            own = path if keys == _VALUE else path + keys
            yield from (own + rest for rest in _paths(child))


_VALUE = (jax.tree_util.GetAttrKey("value"),)
_BOXES = (("flax", "Variable"), ("flax", "AxisMetadata"))  # and classes derived from them


def _is_box(node: Any) -> bool:
    kind: Any = type(node)
    return _boxes(kind)


@functools.lru_cache(maxsize=1024)
def _boxes(kind: type) -> bool:
    """Whether a class is a box of Flax, by the names of its bases: nothing here imports Flax."""
    return any((c.__module__.partition(".")[0], c.__name__) in _BOXES for c in kind.__mro__)


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves by name, in `jax.tree.leaves` order."""
    return dict(zip(names(tree), jax.tree.leaves(tree), strict=True))


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts from leaves by name, the inverse of `named_leaves` for such trees.

    Raises:
      ValueError: if the name of one leaf begins another's.

    >>> from tlx.core import tree
    >>> tree.nested({"a/b": 1, "a/c": 2})
    {'a': {'b': 1, 'c': 2}}
    """
    out: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *above, last = name.split("/")
        level = out
        for i, part in enumerate(above, 1):
            level = level.setdefault(part, {})
            if "/".join(above[:i]) in leaves:
                raise ValueError(
                    f"expected names of leaves of which none begins another, got "
                    f"{'/'.join(above[:i])!r} and {name!r}; rename one"
                )
        level[last] = leaf
    return out


def map_named(fn: Any, tree: Any) -> Any:
    """`jax.tree.map` of `fn(name, leaf)`."""
    leaves, treedef = jax.tree.flatten(tree)
    return jax.tree.unflatten(treedef, map(fn, names(tree), leaves))


def accumulator(dtype: Any) -> Any:
    """The dtype in which sums over values of `dtype` are taken: float32 or more."""
    if jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize < 4:
        return jnp.dtype(jnp.float32)  # 8 bits and fewer are promoted to nothing
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(dtype, jnp.float32)


def reals(leaf: Any) -> Array:
    """The numbers of a leaf, in float32 or more: real ones as [...], complex ones as [..., 2].

    All arithmetic on parameters is on these, so that a complex number is two real ones: its
    real and its imaginary part.
    """
    leaf = jnp.asarray(leaf)
    leaf = leaf.astype(accumulator(leaf.dtype))
    return jnp.stack([leaf.real, leaf.imag], -1) if jnp.iscomplexobj(leaf) else leaf


def rounded(numbers: Array, like: Any) -> Array:
    """The leaf with these `reals`, rounded once to the dtype of another."""
    dtype = jnp.result_type(like)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        numbers = jax.lax.complex(numbers[..., 0], numbers[..., 1])
    return numbers.astype(dtype)


def num_reals(leaf: Any) -> int:
    """The number of `reals` of a leaf: 2 for a complex number; 0 where it is not floating."""
    size = int(np.size(leaf)) if is_inexact(leaf) else 0
    return 2 * size if jnp.iscomplexobj(leaf) else size


def moving(*leaves: Any) -> list[Array]:
    """The `reals` of one leaf of several models, 0 where all hold the same NaN or infinity.

    Such a number (of a causal mask, say) is a constant: it does not move and has no length.
    """
    numbers = _together(*leaves)
    still = constant(numbers)
    return [jnp.where(still, 0, x) for x in numbers]


def _together(*leaves: Any) -> list[Array]:
    """The `reals` of leaves that must be of one shape and all real or all complex."""
    if len({(np.shape(x), jnp.iscomplexobj(x)) for x in leaves}) > 1:
        found = ", ".join(f"{jnp.result_type(x)} {np.shape(x)}" for x in leaves)
        raise ValueError(f"expected leaves of one shape, all real or all complex, got {found}")
    return [reals(leaf) for leaf in leaves]


def constant(numbers: Sequence[Any]) -> Any:
    """Where several arrays of one shape hold the same NaN or infinity."""
    xp: Any = jnp if isinstance(numbers[0], jax.Array) else np
    first = numbers[0]
    same = [(x == first) | (xp.isnan(x) & xp.isnan(first)) for x in numbers[1:]]
    return functools.reduce(operator.and_, same, ~xp.isfinite(first))


def lerp(a: Params, b: Params, t: Float[Array, ""] | float) -> Params:
    """The point `(1 − t)·a + t·b`, leaf by leaf; exactly `a` at t = 0 and `b` at t = 1.

    Args:
      a: pytree of arrays.
      b: pytree of the same structure, shapes and dtypes (not checked here; see `paths.line`).
      t: scalar; below 0 or above 1 extrapolates.

    Returns:
      A pytree like `a`. A number that is the same in both, also an infinity or NaN, stays as it
      is at every t. One that is infinite in one of them is that infinity between the ends.
      Leaves that are not floating (counters) are `a`'s.

    Numerics: computed in float32 or more, rounded once to the leaf's dtype.
    """
    leaves = jax.tree.leaves(a)
    treedef: Any = jax.tree.structure(a)
    others = treedef.flatten_up_to(b)
    moved = [i for i, leaf in enumerate(leaves) if is_inexact(leaf)]
    pairs = [_together(leaves[i], others[i]) for i in moved]
    numbers = _mixed([x for x, _ in pairs], [y for _, y in pairs], jnp.asarray(t, float))
    for i, x in zip(moved, numbers, strict=True):
        leaves[i] = rounded(x, leaves[i])
    return jax.tree.unflatten(treedef, leaves)


@jax.custom_jvp
def _mixed(xs: list[Array], ys: list[Array], t: Array) -> list[Array]:
    def mix(x: Array, y: Array) -> Array:
        s = t.astype(x.dtype)
        between = (1 - s) * x + s * y  # NaN of two NaN; of an infinity times 0, not taken
        return jnp.where(s == 1, y, jnp.where((x == y) | (s == 0), x, between))

    return list(map(mix, xs, ys))


@_mixed.defjvp
def _mixed_jvp(primals: Any, tangents: Any) -> Any:
    """The derivative of the formula: where the result is selected, it would otherwise be 1 or 0."""

    def slope(x: Array, y: Array, dx: Array, dy: Array) -> Array:
        s, ds = t.astype(x.dtype), dt.astype(x.dtype)
        finite = jnp.isfinite(x) & jnp.isfinite(y)
        return (1 - s) * dx + s * dy + ds * jnp.where(finite, y - x, 0)

    (xs, ys, t), (dxs, dys, dt) = primals, tangents
    return _mixed(xs, ys, t), list(map(slope, xs, ys, dxs, dys))


def add(a: Params, b: Params, scale: Float[Array, ""] | float = 1.0) -> Params:
    """`a + scale·b`, leaf by leaf, computed in float32 or more; other leaves are `a`'s."""

    def leaf(x: Any, y: Any) -> Any:
        if not is_inexact(x):
            return x
        numbers, step = _together(x, y)
        wide = numbers.dtype
        return rounded(numbers + jnp.asarray(scale, wide) * step.astype(wide), x)

    return jax.tree.map(leaf, a, b)


def sub(a: Params, b: Params) -> Params:
    """`a − b`, leaf by leaf: 0 for the same NaN or infinity; other leaves are `a`'s."""

    def leaf(x: Any, y: Any) -> Any:
        if not is_inexact(x):
            return x
        left, right = moving(x, y)
        return rounded(left - right, x)

    return jax.tree.map(leaf, a, b)


def dot(a: Params, b: Params) -> Float[Array, ""]:
    """The sum over all floating leaves of `a·b`: float32 (or wider) scalar, 0 if there are none.

    Of complex leaves the real part of conj(a)·b, so that `dot(a, a)` is the square of `norm(a)`.
    """
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    parts = [jnp.sum(operator.mul(*_together(*pair))) for pair in pairs if is_inexact(pair[0])]
    wide = max((part.dtype for part in parts), key=lambda d: d.itemsize, default=jnp.float32)
    return functools.reduce(operator.add, (x.astype(wide) for x in parts), jnp.zeros((), wide))


def norm(a: Params) -> Float[Array, ""]:
    """The Euclidean norm over all floating leaves: float32 (or wider) real scalar.

    At any scale: squares stay in the range of floats.
    """
    scaled, exponent = unit_scale(a)
    return times_power(jnp.sqrt(dot(scaled, scaled)), exponent)


def unit_scale(a: Params) -> tuple[Params, Int[Array, ""]]:
    """The floating leaves over the power of two at their largest number; its exponent.

    An array is a pytree of one leaf. As `reals`, and exactly, but for what is too small
    beside the largest to count in a sum. The exponent has no derivative.
    """
    leaves, treedef = jax.tree.flatten(a)
    numbers = {i: reals(leaf) for i, leaf in enumerate(leaves) if is_inexact(leaf)}
    of_leaves = [jnp.max(jnp.abs(jax.lax.stop_gradient(x)), initial=0) for x in numbers.values()]
    wide = max((x.dtype for x in of_leaves), key=lambda d: d.itemsize, default=jnp.float32)
    largest = [x.astype(wide) for x in of_leaves]
    exponent = jnp.frexp(functools.reduce(jnp.maximum, largest, jnp.zeros((), wide)))[1]
    for i, x in numbers.items():
        leaves[i] = times_power(x, -exponent)
    return jax.tree.unflatten(treedef, leaves), exponent


def stack(trees: Sequence[Params]) -> Params:
    """One pytree with a new leading axis over the given ones (copies them)."""
    if not trees:
        raise ValueError("expected at least one pytree to stack, got none")
    for i, other in enumerate(trees[1:], 1):
        same_structure(trees[0], other, ("trees[0]", f"trees[{i}]"))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(stack: Params) -> list[Params]:
    """The S models of a pytree whose leaves have a leading axis over them.

    Raises:
      ValueError: for leaves without a leading axis, or of different lengths.
    """
    return [jax.tree.map(lambda x, i=i: x[i], stack) for i in range(stack_size(stack))]


def stack_size(stack: Params) -> int:
    """S, the length of the leading axis that all leaves have.

    Raises:
      ValueError: for leaves without a leading axis, or of different lengths, naming them.
    """
    shapes = {name: np.shape(leaf) for name, leaf in named_leaves(stack).items()}
    lengths = {shape[:1] for shape in shapes.values()}
    if len(lengths) != 1 or lengths == {()}:
        some = ", ".join(f"{name} {list(shape)}" for name, shape in list(shapes.items())[:8])
        raise ValueError(
            f"expected leaves with one leading axis of the same length, over the models, got "
            f"{some or 'none'}"
        )
    return int(lengths.pop()[0])


def count(tree: Params) -> int:
    """The number of real numbers in all leaves, P: two for a complex one, one for an integer."""
    return sum(num_reals(leaf) or int(np.size(leaf)) for leaf in jax.tree.leaves(tree))


def same_structure(
    a: Any, b: Any, names: tuple[str, str] = ("params_a", "params_b"), *, dtype: bool = True
) -> None:
    """Raises unless two pytrees have the same leaves, shapes and dtypes.

    Args:
      a: pytree of arrays or `jax.ShapeDtypeStruct`.
      b: pytree of arrays or `jax.ShapeDtypeStruct`.
      names: what to call the two in the message.
      dtype: whether dtypes must agree too, as JAX holds them: float64 of numpy, and Python's
        floats, are float32 unless jax_enable_x64 is set.

    Raises:
      ValueError: listing every leaf that is in one tree only or differs, by its path.
        At call, also while tracing: only shapes and dtypes are read.
    """
    left, right = _described(a, dtype), _described(b, dtype)
    lines = [
        f"  {path}: {left.get(path, 'missing')} in {names[0]}, "
        f"{right.get(path, 'missing')} in {names[1]}"
        for path in dict.fromkeys([*left, *right])
        if left.get(path) != right.get(path)
    ]
    if lines:
        raise ValueError(
            f"expected {names[0]} and {names[1]} with the same leaves, got {len(lines)} of "
            f"{len(left | right)} that differ:\n"
            + "\n".join(lines)
            + "\nRestore both from the same "
            "model definition, or select the modules that they share (tlx.core.labels.select)."
        )
    kinds: tuple[Any, Any] = (jax.tree.structure(a), jax.tree.structure(b))
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"expected {names[0]} and {names[1]} in the same containers, got the same leaves in "
            "different ones:\n"
            f"  {names[0]}: {kinds[0]}\n  {names[1]}: {kinds[1]}\n"
            "Convert one with jax.tree.unflatten(jax.tree.structure(other), jax.tree.leaves(tree))."
        )


def _described(a: Any, dtype: bool) -> dict[str, str]:
    out = {}
    for path, leaf in named_leaves(a).items():
        if not hasattr(leaf, "shape"):
            leaf = np.asarray(leaf)
        shape = "×".join(map(str, leaf.shape)) or "scalar"
        kind = jax.dtypes.canonicalize_dtype(leaf.dtype, allow_extended_dtype=True)
        out[path] = f"{kind} {shape}" if dtype else shape
    return out


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf holds floating or complex numbers, so that it can be interpolated."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return bool(jnp.issubdtype(dtype, np.inexact))


def same_integers(a: Any, b: Any) -> None:
    """Raises unless the leaves that are not floating are equal, naming those that are not."""
    right = named_leaves(b)
    differ = [
        name
        for name, x in named_leaves(a).items()
        if not is_inexact(x) and not _equal(x, right[name])
    ]
    if differ:
        raise ValueError(
            "expected leaves that are not floating to be equal at both ends of a path, got "
            f"different values of {', '.join(differ)}. Keep counters and random keys out of the "
            "parameters, or give both ends the same value."
        )


def _equal(x: Any, y: Any) -> bool:
    if x is y or isinstance(x, jax.core.Tracer) or isinstance(y, jax.core.Tracer):
        return True  # a traced value cannot be read; the ends' leaf of the first is kept
    if jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key):
        x, y = jax.random.key_data(x), jax.random.key_data(y)
    return bool((jnp.asarray(x) == jnp.asarray(y)).all())
