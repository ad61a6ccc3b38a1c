"""The partition of parameters into modules: one label a leaf, from rules on leaf names.

The same labelling serves freezing, learning rates, distances, criticality and spectra.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from tlx.core import checks, public, tree
from tlx.core.types import Labels, Params

__dir__ = public.names(__name__)


def from_names(params: Params, label_of: Callable[[str], str]) -> Labels:
    """Labels of the leaves by a function of their names.

    Args:
      params: pytree of arrays.
      label_of: leaf name ("params/stem/conv/kernel") to label.

    Returns:
      A pytree of str with the structure of `params`.

    >>> from tlx.core import labels
    >>> params = {"stem": {"kernel": 0.0}, "head": {"bias": 0.0}}
    >>> labels.from_names(params, lambda name: name.split("/")[0])
    {'head': {'bias': 'head'}, 'stem': {'kernel': 'stem'}}
    """
    return tree.map_named(lambda name, _: label_of(name), params)


def from_rules(
    params: Params, rules: Sequence[tuple[str, str]], *, default: str | None = None
) -> Labels:
    """Labels of the leaves by the rule whose regular expression matches within their names.

    The order of the rules does not matter: a leaf that rules with different labels
    match is an error, as is a rule that matches nothing.

    Args:
      params: pytree of arrays.
      rules: pairs (regular expression for `re.search`, label).
      default: the label of leaves that no rule matches; None makes such a leaf an error.

    Returns:
      A pytree of str with the structure of `params`.

    Raises:
      ValueError: naming every leaf without a label, every leaf with two, and every rule
        that is not used or is no regular expression.

    >>> from tlx.core import labels
    >>> params = {"stem": {"kernel": 0.0}, "head": {"bias": 0.0}}
    >>> labels.from_rules(params, [("^head/", "head")], default="body")
    {'head': {'bias': 'head'}, 'stem': {'kernel': 'body'}}
    """
    try:
        compiled = [(re.compile(pattern), label) for pattern, label in rules]
    except re.error as error:
        raise ValueError(
            f"expected rules as regular expressions, got {error.pattern!r}: {error}"
        ) from error
    problems = []
    used = set()
    found = {}
    for name in tree.names(params):
        hits = [i for i, (pattern, _) in enumerate(compiled) if pattern.search(name)]
        used.update(hits)
        choices = sorted({rules[i][1] for i in hits})
        if len(choices) > 1:
            patterns = ", ".join(repr(rules[i][0]) for i in hits)
            problems.append(f"  {name}: labels {', '.join(choices)} by the rules {patterns}")
        elif not choices and default is None:
            problems.append(f"  {name}: no rule matches; add one, or give default=")
        else:
            found[name] = choices[0] if choices else default
    for i in sorted(set(range(len(rules))) - used):
        problems.append(f"  rule {rules[i][0]!r} → {rules[i][1]!r} matches no leaf")
    if problems:
        raise ValueError(
            "expected rules that partition the parameters, got:\n" + "\n".join(problems)
        )
    return tree.map_named(lambda name, _: found[name], params)


@jax.tree_util.register_static
class _Empty:
    """A place of the parameters that holds None, in what `select` gives."""

    def __repr__(self) -> str:
        return "EMPTY"


EMPTY = _Empty()


def unique(labels: Labels) -> tuple[str, ...]:
    """The labels in order of first use."""
    return tuple(dict.fromkeys(jax.tree.leaves(labels)))


def groups(params: Params, labels: Labels) -> dict[str, list[Any]]:
    """The leaves under each label, labels in order of first use.

    Raises:
      ValueError: if `labels` does not have the structure of `params`.
    """
    out: dict[str, list[Any]] = {}
    for leaf, label in zip(jax.tree.leaves(params), _flat(params, labels), strict=True):
        out.setdefault(label, []).append(leaf)
    return out


def select(params: Params, labels: Labels, wanted: Iterable[str] | str) -> Params:
    """The parameters with None in place of every leaf whose label is not wanted.

    None is an empty pytree, so `jax.tree` functions skip what was left out. Where the parameters
    themselves hold None (as Equinox's do), `EMPTY` takes its place, which is empty too.

    Raises:
      ValueError: if a wanted label is not used, naming the nearest one.
    """
    wanted = {wanted} if isinstance(wanted, str) else set(wanted)
    flat = _flat(params, labels)
    for label in sorted(wanted - set(flat)):
        raise ValueError(checks.unknown("label", label, set(flat)))
    labels_of = iter(flat)

    def kept(leaf: Any) -> Any:
        if leaf is None:
            return EMPTY
        return leaf if next(labels_of) in wanted else None

    return jax.tree.map(kept, params, is_leaf=lambda x: x is None)


def merge(*parts: Params) -> Params:
    """The union of trees from `select` with disjoint labels: `merge(select(p, l, a), …)` is `p`.

    Raises:
      ValueError: if a leaf is in several parts or in none, naming it.
    """
    flats = [
        jax.tree_util.tree_flatten_with_path(part, is_leaf=lambda x: x is None or x is EMPTY)
        for part in parts
    ]
    leaves: list[Any] = []
    for column in zip(*(flat for flat, _ in flats), strict=True):
        if all(leaf is EMPTY for _, leaf in column):
            leaves.append(None)
            continue
        present = [leaf for _, leaf in column if leaf is not None]
        if len(present) != 1:
            path = jax.tree_util.keystr(column[0][0], simple=True, separator="/")
            raise ValueError(
                f"expected each leaf in one part, got {path} in {len(present)} of {len(parts)}"
            )
        leaves.append(present[0])
    return jax.tree.unflatten(flats[0][1], leaves)


def _flat(params: Params, labels: Labels) -> list[str]:
    expected: Any = jax.tree.structure(params)
    if expected != jax.tree.structure(labels):
        missing = set(tree.names(params)) ^ set(tree.names(labels))
        raise ValueError(
            "expected labels with the structure of params, got leaves in one only: "
            f"{', '.join(sorted(missing)) or 'none, but different containers'}"
        )
    return jax.tree.leaves(labels)
