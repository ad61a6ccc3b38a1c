"""What was measured of two checkpoints, in words: one sentence a finding, with its evidence."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlx.audit.behaviour import TOLERANCE, Behaviour, Interval, Line
from tlx.audit.models import Model
from tlx.audit.weights import Pair, whole

RELATED = 0.3
"""Mean cosine of the matrices from which on one model was made from the other."""

MOST_NAMED = 4


class Finding(NamedTuple):
    """A finding: a short name of what was found, and a sentence."""

    name: str
    text: str


def of_weights(models: dict[str, Model], pairs: dict[str, Pair]) -> list[Finding]:
    """What the weights show.

    Args:
      models: by part, "a", "b" and perhaps "parent".
      pairs: "a and b" and, with a parent, "parent and a" and "parent and b".
    """
    a, b = models["a"].name, models["b"].name
    of_both = pairs["a and b"]
    found = [_of_both(a, b, of_both)]
    for part in ("a", "b"):
        if f"parent and {part}" in pairs:
            found.append(_of_parent(models, part, pairs[f"parent and {part}"]))
    return found


def _of_both(a: str, b: str, pair: Pair) -> Finding:
    kinds = pair.of_kind
    changed = [m for m, kind in zip(pair.modules, pair.kinds, strict=True) if kind != "unchanged"]
    if not changed:
        return Finding("same", f"{a} and {b} are the same weights, to the bit.")
    if np.isnan(pair.body_cosine):
        return Finding("undefined", f"{a} and {b} have no finite matrices that can be compared.")
    odd = _odd(pair)
    if odd is not None:
        kind, where = odd
        rest = "everything else is the same" if _rest_is_same(pair, where) else "the rest is near"
        return Finding(kind, f"{_said(kind, where, pair, a, b)}; {rest}.")
    way = whole(pair.layer_kinds, pair.layers)
    if way is not None:
        return Finding(*_whole_said(way, pair, a, b))
    if _is_related(pair):
        text = f"{a} and {b} come from the same weights (mean cosine {_number(pair.body_cosine)})"
        text += _unchanged(kinds.get("unchanged", []))
        return Finding("related", f"{text}; {_most(pair)}.")
    return Finding(
        "unrelated",
        f"{a} and {b} have nothing in common in their weights: the mean cosine of their matrices "
        f"is {_number(pair.body_cosine)}.",
    )


def _of_parent(models: dict[str, Model], part: str, pair: Pair) -> Finding:
    name, parent = models[part].name, models["parent"].name
    changed = [m for m, kind in zip(pair.modules, pair.kinds, strict=True) if kind != "unchanged"]
    head = models[part].head
    body = [m for m in changed if m != head]
    if not changed and (head is None or head in pair.modules):
        return Finding("parent_itself", f"{name} is {parent}, to the bit.")
    if not body:
        return Finding(
            "head_only",
            f"Of {parent} only the head ({head}) was trained to get {name}: all else is the same, "
            "to the bit.",
        )
    if np.isnan(pair.body_cosine):
        return Finding("undefined", f"{name} and {parent} have no finite matrices to compare.")
    if not _is_related(pair):
        return Finding(
            "not_from_parent",
            f"{name} was not made from {parent}: the mean cosine of their matrices is "
            f"{_number(pair.body_cosine)}.",
        )
    way = whole(pair.layer_kinds, pair.layers)
    text = f"{name} is {parent}, trained on (mean cosine {_number(pair.body_cosine)})"
    kind = "fine_tuned"
    if way is not None:
        kind, text = _whole_said(way, pair, parent, name)
        text = text.rstrip(".")
    odd = _odd(pair)
    if odd is not None and way is None:
        kind, where = odd
        text += f"; {_said(kind, where, pair, parent, name)}"
    frozen = pair.of_kind.get("unchanged", [])
    if frozen and kind == "fine_tuned":
        kind = "frozen"
    return Finding(kind, f"{text}{_unchanged(frozen)}; {_most(pair)}.")


def _odd(pair: Pair) -> tuple[str, list[str]] | None:
    """The modules that changed in a way of their own, where most did not."""
    for kind in ("unrelated", "scaled", "reordered"):
        where = pair.of_kind.get(kind, [])
        if kind == "reordered" and where:
            return kind, where
        if where and len(where) <= max(1, len(pair.modules) / 3) and _is_related(pair):
            return kind, where
    return None


def _whole_said(kind: str, pair: Pair, x: str, y: str) -> tuple[str, str]:
    """The finding of a change of one kind in all matrices."""
    moved = [i for i, k in enumerate(pair.layer_kinds) if k == kind]
    ranks = pair.layers.rank[moved]
    relative = float(np.median(pair.layers.relative[moved]))
    if kind == "low_rank":
        where = _names(list(dict.fromkeys(pair.layer_modules[i] for i in moved)))
        intruders = int(pair.layers.intruders[moved].sum())
        more = f"; {intruders} of the largest singular vectors are new" if intruders else ""
        return kind, (
            f"{y} is {x} with a change of low rank: {_range(ranks)} in {where}, as adapters of low "
            f"rank leave it (the full rank is {_range(pair.layers.full_rank[moved])}){more}."
        )
    return kind, (
        f"{y} is {x} with noise of {_percent(relative)} on the weights: the change of each matrix "
        "is spread over all directions as that of independent numbers."
    )


def _said(kind: str, where: Sequence[str], pair: Pair, x: str, y: str) -> str:
    named = _names(where)
    is_one = len(where) == 1
    if kind == "unrelated":
        return (
            f"{named} of {y} {'has' if is_one else 'have'} nothing of {x} (cosine "
            f"{_number(_cosine(pair, where))}): replaced, or trained anew"
        )
    if kind == "scaled":
        found = zip(pair.layer_kinds, pair.layer_modules, pair.layers.scale, strict=True)
        each = [
            f"{_layer(pair, i)} of {y} is that of {x} times {scale:.3g}"
            for i, (of, module, scale) in enumerate(found)
            if of == kind and module in where
        ]
        return "; ".join(each[:MOST_NAMED])
    return (
        f"{named} of {y} {'has' if is_one else 'have'} the singular values of {x} in matrices that "
        "differ: the same units in another order"
    )


def _layer(pair: Pair, i: int) -> str:
    """The layer of a matrix, by its leaf's name without collection and tensor."""
    name = re.sub(r"^params/", "", pair.layers.layers[i].replace(".", "/"))
    return name.rpartition("/")[0] or name


def _rest_is_same(pair: Pair, where: Sequence[str]) -> bool:
    rest = [k for m, k in zip(pair.modules, pair.kinds, strict=True) if m not in where]
    return all(kind == "unchanged" for kind in rest)


def _is_related(pair: Pair) -> bool:
    return pair.body_cosine > RELATED


def _unchanged(where: Sequence[str]) -> str:
    return (
        f"; {_names(where)} {'was' if len(where) == 1 else 'were'} left as before" if where else ""
    )


def _most(pair: Pair) -> str:
    """Where most changed."""
    finite = np.where(np.isfinite(pair.relative), pair.relative, -1)
    order = np.argsort(-finite)[:2]
    parts = [f"{pair.modules[i]} by {_percent(pair.relative[i])}" for i in order if finite[i] > 0]
    return f"most in {' and '.join(parts)}" if parts else "nothing else moved"


def of_behaviour(models: dict[str, Model], found: Behaviour) -> list[Finding]:
    """What the data show."""
    a, b = models["a"].name, models["b"].name
    return [
        _accuracy(models, found),
        _basin(a, b, found),
        _soup(a, b, found),
        _mistakes(a, b, found),
        *_modules(a, b, found),
        *_layers(a, b, found),
    ]


def _accuracy(models: dict[str, Model], found: Behaviour) -> Finding:
    parts = [f"{models[p].name} {_interval(x)} %" for p, x in found.accuracy.items()]
    text = f"On {found.num_examples:,} examples right: {', '.join(parts)}"
    if found.largest_difference < 1e-3 and found.same_answers == 1:
        return Finding(
            "same_function",
            f"{text}. Both compute the same function: outputs differ by at most "
            f"{found.largest_difference:.1g} of the largest.",
        )
    return Finding("accuracy", f"{text}; the same answer on {100 * found.same_answers:.1f} %.")


def _basin(a: str, b: str, found: Behaviour) -> Finding:
    line = found.line
    if line.drift.low > TOLERANCE:
        text = f"Whether {a} and {b} lie in one basin is open: {_too_few(line, found)}."
        return Finding("basin_open", text)
    height = f"{_interval(line.barrier)} points of accuracy"
    said = {
        "yes": f"{a} and {b} lie in one basin: on the line between them at most {height} are lost",
        "no": f"{a} and {b} do not lie in one basin: on the line between them {height} are lost",
        "open": f"Whether {a} and {b} lie in one basin is open: {height} are lost on the line, "
        f"{100 * TOLERANCE:.0f} are allowed",
    }
    text = said[line.verdict]
    if found.aligned is not None and line.verdict != "yes":
        after = found.aligned
        if found.same_after_alignment:
            text += "; with the units in one order they are the same weights"
        else:
            text += f"; with the units in one order {_interval(after.barrier)} are"
    return Finding(f"basin_{line.verdict}", text + ".")


def _too_few(line: Line, found: Behaviour) -> str:
    return (
        f"the batch statistics that these {found.num_examples:,} examples give move the accuracy "
        f"of a model itself by {_interval(line.drift)} points; more examples are needed, of all "
        "classes"
    )


def _soup(a: str, b: str, found: Behaviour) -> Finding:
    gain, line = found.soup_line.soup, found.soup_line
    middle = 100 * line.accuracy[len(line.accuracy) // 2]
    order = "" if line is found.line else " with the units in one order"
    if line.drift.low > TOLERANCE:
        text = f"Whether they can be averaged is open: {_too_few(line, found)}."
        return Finding("soup", text)
    if gain.low > 0:
        said = "They can be averaged, with gain"
    elif gain.low > -TOLERANCE:
        said = "They can be averaged"
    elif gain.high < -TOLERANCE:
        said = "They cannot be averaged"
    else:
        said = "Whether they can be averaged is open"
    better = "the better of the two"
    if line.statistics not in ("none", "interpolated"):
        ends = 100 * max(line.accuracy[0], line.accuracy[-1])
        better += f" with statistics taken in the same way ({ends:.1f} %)"
    return Finding(
        "soup",
        f"{said}: the mean of the weights{order} is right on {middle:.1f} %, "
        f"{_interval(gain, sign=True)} points beside {better}.",
    )


def _mistakes(a: str, b: str, found: Behaviour) -> Finding:
    kappa = found.kappa
    if not np.isfinite(kappa.value):
        return Finding("mistakes", "Of mistakes in common nothing can be said: there are too few.")
    more = "more often than chance has it" if kappa.low > 0 else "not measurably beyond chance"
    return Finding(
        "mistakes",
        f"They err on the same examples {more}: both on {found.both_wrong} (independent errors: "
        f"{found.by_chance:.1f}), Cohen's kappa {_plain(kappa)}.",
    )


def _modules(a: str, b: str, found: Behaviour) -> list[Finding]:
    out = []
    other = {"a": b, "b": a}
    for part, name in (("a", a), ("b", b)):
        drops = found.dropped[part]
        if not np.isfinite(drops).any():
            continue
        order = [i for i in np.argsort(-np.nan_to_num(drops, nan=-1)) if drops[i] > 0.01][:3]
        source = "the parent" if found.reference == "parent" else other[part]
        if not order:
            text = f"No single module of {name} matters: each may be that of {source}"
        else:
            named = [f"{found.modules[i]} ({100 * drops[i]:.1f} points)" for i in order]
            text = f"{name} needs most, each lost when it is that of {source}: {', '.join(named)}"
        out.append(Finding(f"modules_{part}", text + "."))
    return out


def _layers(a: str, b: str, found: Behaviour) -> list[Finding]:
    if "a and b" not in found.cka:
        return []
    cka = found.cka["a and b"]
    seen = [i for i in range(len(cka)) if np.isfinite(cka[i])]
    if not seen:
        return []
    low = min(seen, key=lambda i: cka[i])
    text = (
        f"Their features are most unlike in {found.layers[low]} (CKA {cka[low]:.2f}; mean "
        f"{np.mean(cka[seen]):.2f})"
    )
    if min(cka[seen]) > 0.99:
        text = f"Their features are the same in every layer (CKA of at least {min(cka[seen]):.3f})"
    left = [
        f"{np.nanmean(found.cka[f'{p} and parent']):.2f} in {name}"
        for p, name in (("a", a), ("b", b))
        if f"{p} and parent" in found.cka
    ]
    if left:
        text += f"; with the parent's it is {' and '.join(left)} on average"
    return [Finding("features", text + ".")]


def _cosine(pair: Pair, where: Sequence[str]) -> float:
    """The mean cosine of the matrices of some modules."""
    chosen = [i for i, module in enumerate(pair.layer_modules) if module in where]
    return float(np.nanmean(pair.layers.cosine[chosen]))


def _names(names: Sequence[str]) -> str:
    shown = list(names[:MOST_NAMED])
    if len(names) > MOST_NAMED:
        return f"{', '.join(shown)} and {len(names) - MOST_NAMED} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def _range(values: np.ndarray) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _percent(value: float) -> str:
    return f"{100 * value:.2g} %" if value < 0.995 else f"{100 * value:,.0f} %"


def _plain(x: Interval) -> str:
    return f"{x.value:.2f} [{x.low:.2f}, {x.high:.2f}]".replace("-", "−")


def _interval(x: Interval, sign: bool = False) -> str:
    plus = "+" if sign else ""
    text = f"{100 * x.value:{plus}.1f} [{100 * x.low:{plus}.1f}, {100 * x.high:{plus}.1f}]"
    return text.replace("-", "−")
