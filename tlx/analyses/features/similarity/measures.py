"""Which similarity measures there are: formula, invariances, range, cost and reference by name.

X [n, Dx] and Y [n, Dy] are features of the same n examples, centred in all formulas unless
an entry says otherwise. K, L are their Gram matrices, K~, L~ these U-centred without their
diagonals, U S Vᵀ = X is the singular value decomposition, ρ are the canonical correlations.
The functions behind the names, with all their options, are in `cka`, `cca`, `shape`, `rsa` and
`neighbors`.

The file is longer than others, so that all entries are in one place. A measure with other
options is a new entry:
`get("svcca")._replace(name="svcca_90", comparison=cca.make_svcca(0.9))`.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from tlx.analyses.features.similarity import (
    _comparison,
    _needed,
    cca,
    cka,
    kernels,
    neighbors,
    rsa,
    shape,
)
from tlx.analyses.features.similarity._comparison import Comparison
from tlx.core import checks, public, shown

__dir__ = public.names(__name__)

INVARIANCES: Mapping[str, str] = MappingProxyType(
    {
        "translation": "the same vector added to the features of every example",
        "scaling": "all features times one positive number",
        "orthogonal": "features times an orthogonal matrix",
        "linear": "features times any invertible matrix",
    }
)
"""What a measure may be invariant to, in either of its arguments."""


@shown.short
class Measure(NamedTuple):
    """A similarity measure; the module's text names the symbols of its formula.

    Attributes:
      name: as in `MEASURES` and in records.
      comparison: the measure itself.
      formula: one line of text.
      invariances: names from `INVARIANCES`: what may be applied to either argument without
        changing the value.
      needed: `(Dx, Dy) -> n`, the number of examples below which the value says little. It
        depends on the options of the comparison (the k of neighbours, the number of directions
        kept): replace both together.
      cost: of one pair, in flops and floats.
      reference: authors, title, year, equation.
      low: the lower end of the range; −inf where there is none.
      high: the upper end.
      is_symmetric: whether exchanging the arguments leaves the value as it is.
      higher_is_similar: False for a distance.
    """

    name: str
    comparison: Comparison
    formula: str
    invariances: frozenset[str]
    needed: Callable[[int, int], int]
    cost: str
    reference: str
    low: float = 0.0
    high: float = 1.0
    is_symmetric: bool = True
    higher_is_similar: bool = True


def get(measure: str | Measure) -> Measure:
    """The measure of a name; a `Measure` is returned as it is.

    Raises:
      ValueError: for an unknown name.
    """
    if isinstance(measure, Measure):
        return measure
    if measure not in MEASURES:
        raise ValueError(checks.unknown("measure", measure, MEASURES))
    return MEASURES[measure]


def between(measure: str | Measure, x: Any, y: Any) -> Float[Array, ""]:
    """The measure of two sets of features [n, ...] on the same examples, each flattened.

    Returns:
      Float scalar in the measure's range; NaN where it is undefined (constant features, NaN).

    Raises:
      ValueError: for an unknown name, lengths that differ or fewer examples than the measure
        is defined for. At call, also while tracing.

    Cost: that of the measure, `Measure.cost`.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses.features.similarity import measures
    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> y = x @ jnp.diag(jnp.array([1.0, 3.0, 9.0]))  # linear, not orthogonal
    >>> names = ("cka_debiased", "mean_cca", "procrustes")
    >>> [name for name in names if "linear" in measures.get(name).invariances]
    ['mean_cca']
    >>> [name for name in names if float(measures.between(name, x, y)) > 0.999]
    ['mean_cca']
    """
    return _comparison.between(get(measure).comparison, x, y)


_MOVED = frozenset({"translation", "scaling", "orthogonal"})
_TURNED = frozenset({"scaling", "orthogonal"})

_KORNBLITH = (
    "S. Kornblith, M. Norouzi, H. Lee, G. Hinton, Similarity of neural network representations "
    "revisited, 2019"
)
_SONG = "L. Song et al., Feature selection via dependence maximization, 2012, eq. 5"
_RAGHU = (
    "M. Raghu, J. Gilmer, J. Yosinski, J. Sohl-Dickstein, SVCCA: singular vector canonical "
    "correlation analysis for deep learning dynamics and interpretability, 2017"
)
_WILLIAMS = (
    "A. Williams, E. Kunz, S. Kornblith, S. Linderman, Generalized shape metrics on neural "
    "representations, 2021"
)
_SZEKELY = "G. Székely, M. Rizzo"
_HUH = "M. Huh, B. Cheung, T. Wang, P. Isola, The Platonic Representation Hypothesis, 2024"

_GRAM = "2n²(Dx + Dy) flops, n² floats a set"
_LINEAR = f"{_GRAM}; where n > 1.5 D, 2n(Dx² + Dy² + Dx·Dy) flops, n·D floats"
_SVD = "singular value decompositions of X, Y and a product [rx, ry]; n·D floats a set"

_CKA = "⟨K~, L~⟩ / (‖K~‖ ‖L~‖)"


def _debiased(
    name: str,
    kernel: kernels.Kernel,
    formula: str,
    *,
    invariances: frozenset[str] = _MOVED,
    cost: str = _GRAM,
    reference: str = f"{_KORNBLITH}, section 3; {_SONG}",
) -> Measure:
    comparison = cka.make_cka(kernel, "debiased")
    formula = f"{_CKA}, {formula}"
    return Measure(name, comparison, formula, invariances, _needed.noise, cost, reference, low=-1.0)


_KERNELS = (
    _debiased(
        "cka_debiased",
        kernels.linear(),
        "K = XXᵀ",
        cost=_LINEAR,
        reference=f"{_KORNBLITH}, eq. 4; {_SONG}",
    ),
    Measure(
        "cka_biased",
        cka.make_cka(kernels.linear(), "biased"),
        "‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖): K~ is K, centred",
        _MOVED,
        _needed.bias,
        _LINEAR,
        f"{_KORNBLITH}, eq. 4",
    ),
    Measure(
        "cka_feature_corrected",
        cka.make_cka(kernels.linear(), "feature_corrected"),
        f"{_CKA}, norms without products of a feature with itself",
        _MOVED - {"orthogonal"},
        _needed.noise,
        f"{_LINEAR}; and 2n·D",
        "C. Chun, A. Canatar, S. Chung, D. Lee, Estimating neural representation alignment from "
        "sparsely sampled inputs and features, 2025",
        low=-math.inf,
        high=math.inf,
    ),
    _debiased(
        "cka_rbf",
        kernels.rbf(),
        "K = exp(−‖x − x'‖²/(2σ²)), σ half the median distance",
        cost=f"{_GRAM}, a sort of n² numbers",
    ),
    _debiased(
        "cka_polynomial",
        kernels.polynomial(),
        "K = (⟨x, x'⟩/s + 1)³, s the mean of ‖x‖²",
    ),
    _debiased(
        "cka_cosine",
        kernels.cosine(),
        "K = ⟨x, x'⟩/(‖x‖ ‖x'‖), x not centred",
        invariances=_TURNED,
        cost=_LINEAR,
    ),
    _debiased(
        "distance_correlation",
        kernels.distance(),
        "K = −‖x − x'‖: bias-corrected squared distance correlation",
        reference=f"{_SZEKELY}, The distance correlation t-test of independence in high "
        "dimension, 2013",
    ),
    Measure(
        "distance_correlation_biased",
        cka.make_cka(kernels.distance(), "biased"),
        f"{_CKA}, K = −‖x − x'‖, K~ centred instead: squared distance correlation",
        _MOVED,
        _needed.bias_of_distances,
        _GRAM,
        f"{_SZEKELY}, N. Bakirov, Measuring and testing dependence by correlation of distances, "
        "2007, eq. 2.10",
    ),
)

_LINEAR_MAPS = (
    Measure(
        "mean_cca",
        cca.make_mean_cca(),
        "Σ ρ / min(rank X, rank Y)",
        _MOVED | {"linear"},
        _needed.correlations,
        _SVD,
        _RAGHU,
    ),
    Measure(
        "svcca",
        cca.make_svcca(0.99),
        "Σ ρ / min(rank X, rank Y) of the leading directions with 99% of Σ s² in each",
        _MOVED,
        _needed.correlations,
        _SVD,
        _RAGHU,
    ),
    Measure(
        "pwcca",
        cca.make_pwcca(),
        "Σ αᵢρᵢ / Σ αᵢ, αᵢ = Σ_j |⟨hᵢ, x_j⟩|, hᵢ the canonical variates of X",
        _MOVED - {"orthogonal"},
        _needed.correlations,
        _SVD,
        "A. Morcos, M. Raghu, S. Bengio, Insights on representational similarity in neural "
        "networks with canonical correlation, 2018; the figures of the code released with it are "
        'those of `cca.pwcca(weights="released")`',
        is_symmetric=False,
    ),
    Measure(
        "regression_r2",
        cca.make_regression_r2(),
        "‖UᵀY‖² / ‖Y‖²: X predicts Y; invariant in X, alone, to linear maps too",
        _MOVED,
        _needed.regression,
        _SVD,
        f"{_KORNBLITH}, section 3",
        is_symmetric=False,
    ),
    Measure(
        "procrustes",
        shape.make_procrustes(),
        "‖XᵀY‖_* / (‖X‖ ‖Y‖)",
        _MOVED,
        _needed.rotation,
        _SVD,
        "F. Ding, J. Denain, J. Steinhardt, Grounding representation similarity through "
        "statistical testing, 2021",
    ),
    Measure(
        "shape_distance",
        shape.make_shape_distance(1.0),
        "arccos(‖XᵀY‖_* / (‖X‖ ‖Y‖)), in radians",
        _MOVED,
        _needed.rotation,
        _SVD,
        f"{_WILLIAMS}, section 2",
        high=math.pi / 2,
        higher_is_similar=False,
    ),
    Measure(
        "shape_distance_whitened",
        shape.make_shape_distance(0.0),
        "arccos(Σ ρ / √(rank X · rank Y)), in radians",
        _MOVED | {"linear"},
        _needed.rotation,
        _SVD,
        f"{_WILLIAMS}, section 2",
        high=math.pi / 2,
        higher_is_similar=False,
    ),
)

_EXAMPLES = (
    Measure(
        "rsa",
        rsa.make_rsa(),
        "Spearman correlation over pairs of examples of 1 − their Pearson correlation",
        frozenset({"scaling"}),
        _needed.ranks,
        f"{_GRAM}, a sort of n²/2 numbers",
        "N. Kriegeskorte, M. Mur, P. Bandettini, Representational similarity analysis – "
        "connecting the branches of systems neuroscience, 2008",
        low=-1.0,
    ),
    Measure(
        "mutual_knn",
        neighbors.make_mutual_knn(),
        "Σᵢ |N_x(i) ∩ N_y(i)| / (10n), the 10 neighbours of largest cosine, x not centred",
        _TURNED,
        _needed.neighbors(10),
        f"{_GRAM}, of which the 10 largest in each row",
        _HUH,
    ),
    Measure(
        "cknna",
        neighbors.make_cknna(),
        "h(M∘K, M∘L) / √(h(M_x∘K, M_x∘K) h(M_y∘L, M_y∘L)), see `neighbors.cknna`",
        _TURNED,
        _needed.neighbors(10),
        f"{_GRAM}, of which the 10 largest in each row",
        _HUH,
        low=-math.inf,
        high=math.inf,
        is_symmetric=False,
    ),
)

MEASURES: Mapping[str, Measure] = MappingProxyType(
    {entry.name: entry for entry in (*_KERNELS, *_LINEAR_MAPS, *_EXAMPLES)}
)
"""The measures by name, in the order of the families."""
