"""Kinds of model and of pairs of models: their order, names and colours.

One colour per kind, kept through all figures: P, P-T, C-T, S-T and RI-T have their own (apart from
each other under the common colour deficiencies), a pair of one kind has the kind's, a
pair of two kinds the mixture. And the short names of layers.
"""

KINDS = ("P", "P-T", "C-T", "S-T", "RI-T")
Pair = tuple[str, str]

_COLOURS = {"P": "#0b8a6a", "P-T": "#1f5fa8", "C-T": "#8a4fb0", "S-T": "#2b2b2b", "RI-T": "#c95a08"}
_OTHER = "#6b6b6b"
_MARKERS = {
    ("P-T", "P-T"): "o",
    ("RI-T", "RI-T"): "s",
    ("P-T", "RI-T"): "D",
    ("P", "P-T"): "^",
    ("P", "RI-T"): "v",
    ("C-T", "C-T"): "p",
    ("P", "C-T"): ">",
    ("S-T", "S-T"): "P",
    ("P", "S-T"): "<",
}


def colour(kind: str) -> str:
    """The kind's colour as `#rrggbb`; grey for a kind of another name."""
    return _COLOURS.get(kind, _OTHER)


def pair(kind_a: str, kind_b: str) -> Pair:
    """The two kinds in one order, whichever came first: known ones as in KINDS."""
    one, other = sorted((kind_a, kind_b), key=_rank)
    return one, other


def pair_rank(kinds: Pair) -> tuple[object, ...]:
    """A sort key: P-T / P-T, P-T / RI-T, RI-T / RI-T, then the pairs with P."""
    return ("P" in kinds, _rank(kinds[0]), _rank(kinds[1]))


def pair_name(kinds: Pair) -> str:
    """The short name, e.g. "P-T / RI-T"; P comes last: "P-T / P"."""
    one, other = reversed(kinds) if kinds[0] == "P" else kinds
    return f"{one} / {other}"


def pair_words(kinds: Pair) -> str:
    """The pair for a sentence: "two P-T", "P-T and RI-T"."""
    if kinds[0] == kinds[1]:
        return f"two {kinds[0]}"
    return pair_name(kinds).replace(" / ", " and ")


def pairs_counted(pairs: dict[Pair, int]) -> str:
    """How many pairs of each kind there are: "1 P-T / P-T, 2 RI-T / RI-T"."""
    return ", ".join(f"{number} {pair_name(kinds)}" for kinds, number in pairs.items())


def pair_colour(kinds: Pair) -> str:
    """The mixture of the two kinds' colours as `#rrggbb`."""
    channels = [[int(colour(k)[i : i + 2], 16) / 255 for i in (1, 3, 5)] for k in kinds]
    # Mixed in linear light and back (gamma 2.2), as two lamps would.
    mixed = [((a**2.2 + b**2.2) / 2) ** (1 / 2.2) for a, b in zip(*channels, strict=True)]
    return "#" + "".join(f"{round(255 * value):02x}" for value in mixed)


def colour_of_words(words: str) -> str | None:
    """The colour of a pair in words, such as "two P-T", or None for other words."""
    every = [(a, b) for i, a in enumerate(KINDS) for b in KINDS[i:]]
    named = {name(kinds): kinds for kinds in every for name in (pair_name, pair_words)}
    return pair_colour(named[words]) if words in named else None


def pair_marker(kinds: Pair) -> str:
    """A matplotlib marker that tells the pair apart without colour."""
    return _MARKERS.get(kinds, "x")


def short(layer: str) -> str:
    """A layer's or module's name for an axis: "stage1_block2" is "1.2".

    "block3" is "3", and what is no block stays as it is.
    """
    parts = layer.replace("stage", "").replace("_block", ".").replace("block", "")
    return parts if parts.replace(".", "").isdigit() else layer


def _rank(kind: str) -> tuple[int, str]:
    return (KINDS.index(kind) if kind in KINDS else len(KINDS), kind)


TRAINED = ("P-T", "RI-T")
"""The two kinds that every study has on the target."""

ON_TARGET = ("P-T", "C-T", "S-T", "RI-T")
"""All kinds that are trained there, in the order in which they are shown."""
