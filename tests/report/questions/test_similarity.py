"""The section on features: its table, trends, maps and trajectory; and results in memory."""

import html
from typing import NamedTuple

import numpy as np
import pytest

from tests.report.made import changed
from tests.report.synthetic import LAYERS, similarity, trajectory
from tlx.report import figures, page
from tlx.report.draw import layers, maps
from tlx.report.questions import PARTS
from tlx.report.questions.similarity import numbers, words
from tlx.report.words.kinds import colour_of_words, pair, pair_colour
from tlx.report.words.verdicts import AGREES, DIFFERS, MIXED, NO_INTERVAL, OPEN, P_T, RI_T


def test_the_answer_of_the_fixture(records):
    answer = words.answer(records)
    assert answer.sentence == (
        "Two P-T share more of their features than two RI-T: the mean CKA over layers is 0.816 "
        "[0.805, 0.825] against 0.527 [0.516, 0.536], measurably higher at all 6 layers; between "
        "P-T and RI-T it is 0.425 [0.414, 0.434] and between P-T and P it is 0.765 [0.754, "
        "0.774]. With 8×8 blocks shuffled it is 0.782 [0.771, 0.791] between two P-T, 0.493 "
        "[0.482, 0.502] between two RI-T and 0.731 [0.720, 0.740] between P-T and P. Over the "
        "training, the mean similarity to P of P-T falls, from 1.000 [0.989, 1.009] at step 0 to "
        "0.800 [0.789, 0.809] at step 100; that of RI-T rises, from 0.200 [0.189, 0.209] at step "
        "0 to 0.350 [0.339, 0.359] at step 100."
    )
    assert [c.claim for c in answer.checks] == [  # of whole images, as the paper's table is
        "two P-T are more similar than two RI-T",
        "two P-T are more similar than P-T and RI-T",
        "P-T is more similar to P than to RI-T",
    ]


def test_of_several_pairs_the_least_evidence_counts():
    one, other = similarity("pt0", "pt1"), similarity("pt0", "pt1")
    z = np.array(other.results.z)
    z[2, 2] = 1.5
    found = numbers.layers([one, changed(other, z=z)])[P_T]
    assert found.z[2] == 1.5
    assert found.z[1] == one.results.z[1, 1]


def without_evidence():
    pairs = (("pt0", "pt1"), ("rit0", "rit1"), ("pt0", "rit0"), ("rit1", "pt1"), ("pt0", "p"))
    return [similarity(a, b, evidence=False) for a, b in pairs]


def test_records_without_evidence_are_drawn_as_they_were():
    old = without_evidence()
    answer = words.answer(old)
    assert answer.sentence == (
        "How much two P-T and two RI-T share of their features has no interval: the mean CKA over "
        "layers is 0.82 against 0.53; between P-T and RI-T it is 0.42 and between P-T and P it is "
        "0.77."
    )
    assert answer.verdict == NO_INTERVAL
    table = words.table(old)
    assert table.rows[1][:3] == ("P-T & P-T", "0.96", "0.90")
    caption = words.caption(old)
    assert "with the range as a band" in caption
    assert "%" not in caption
    assert "dotted" not in caption
    for estimator in ("debiased", "biased"):
        found = numbers.layers(old, estimator)[MIXED]
        assert not found.is_interval
        assert np.isnan(found.z).all()
    page.render(old)


def test_the_table_is_the_papers_with_intervals(records):
    table = words.table(records)
    assert table.columns == ("debiased CKA", "stem", "1.1", "2.1", "3.1", "pooled", "logits")
    names = ["P-T & P", "P-T & P-T", "P-T & RI-T", "RI-T & RI-T", "RI-T & P"]
    assert [row[0] for row in table.rows] == names
    assert table.rows[1][1] == "0.960 [0.949, 0.969]"
    assert [row[0] for row in words.table([similarity("pt0", "pt1")]).rows] == names[:4]
    assert words.table([similarity("pt0", "pt1")]).rows[0][1] == "no data"


def test_digits_near_one_are_no_more_than_three():
    values = np.full((6, 6), 0.99999)
    made = changed(similarity("pt0", "pt1"), debiased=values, low=values - 2e-6, high=values + 2e-6)
    assert words.table([made]).rows[1][1] == "1.000 [1.000, 1.000]"


def test_the_table_of_shuffled_images(records):
    rows = words.shuffled_table(records).rows
    assert [row[0] for row in rows] == [
        "4×4 blocks", "P-T & P", "P-T & RI-T",
        "8×8 blocks", "P-T & P", "P-T & P-T", "P-T & RI-T", "RI-T & RI-T",
    ]  # fmt: skip
    assert rows[3][1:] == ("",) * 6
    assert rows[5][1] == "0.920 [0.909, 0.929]"
    one = [similarity("pt0", "pt1", "block:8")]
    assert [row[1] == "no data" for row in words.shuffled_table(one).rows[1:]] == [
        True, False, True, True,
    ]  # fmt: skip


def test_shuffled_records_do_not_enter_the_plain_table(records):
    plain = [r for r in records if r.inputs.get("shuffle", "none") == "none"]
    assert words.table(records) == words.table(plain)


def test_too_few_images_and_chance_are_marked():
    made = changed(
        similarity("pt0", "pt1"),
        too_few=np.arange(6)[:, None] == np.zeros(6, int)[None],
        z=np.where(np.arange(6)[:, None] == 1, 2.9, 3.1) * np.ones((1, 6)),
    )
    row = words.table([made]).rows[1]
    assert row[1].endswith("]†")
    assert row[2].endswith("]‡")
    assert row[3].endswith("]")
    caption = words.caption([made])
    assert "†: too few images" in caption
    assert "‡: no more than images paired at random may give (z below 3)" in caption
    undefined = changed(made, debiased=np.full((6, 6), np.nan), z=np.full((6, 6), np.nan))
    assert set(words.table([undefined]).rows[1][1:]) == {"no data"}
    assert "†" not in words.caption([undefined])


def test_the_caption_says_what_intervals_chance_and_z_are_of(records):
    caption = words.caption(records)
    assert "means over the pairs" in caption
    assert "with 95% intervals as bands" in caption
    assert "The dotted lines are what the biased one gives on average" in caption
    assert "Feature maps are flattened" in caption
    assert "at least 196 standard deviations (z) above" in caption
    assert "95% intervals" in words.shuffled_caption(records)
    assert "95% intervals" in words.by_step_caption(records)


def test_means_over_pairs_are_of_values_and_of_ends():
    low = np.full((6, 6), 0.1)
    made = [
        changed(similarity("pt0", "pt1"), low=low, high=low + 0.2),
        changed(similarity("pt1", "pt0"), low=3 * low, high=3 * low + 0.4),
    ]
    found = numbers.layers(made)[P_T]
    np.testing.assert_allclose(found.low, 0.2)
    np.testing.assert_allclose(found.high, 0.5)
    assert found.mean.interval == pytest.approx((0.2, 0.5))


@pytest.mark.parametrize(
    ("low", "high", "verdict", "lead"),
    [
        (0.3, 0.95, OPEN, "Two P-T share not measurably more of their features"),
        (0.92, 0.95, DIFFERS, "Unlike in the paper, two P-T share no more of their features"),
        (0.1, 0.2, AGREES, "Two P-T share more of their features"),
    ],
)
def test_higher_is_said_of_intervals_that_do_not_overlap(low, high, verdict, lead):
    ends = {"low": np.full((6, 6), low), "high": np.full((6, 6), high)}
    own = changed(similarity("pt0", "pt1"), low=np.full((6, 6), 0.8), high=np.full((6, 6), 0.9))
    answer = words.answer([own, changed(similarity("rit0", "rit1"), **ends)])
    assert answer.checks[0].verdict == verdict
    assert answer.sentence.startswith(lead)
    assert ("higher at all 6" in answer.sentence) == (verdict == AGREES)
    assert ("higher at 0 of 6" in answer.sentence) == (verdict != AGREES)


def test_a_trajectory_compares_the_layers_that_are_defined_at_both_ends():
    found = numbers.by_step([trajectory("pt0")])[pair("P", "P-T")]
    first, last = found.ends()
    assert first.value == 1.0
    assert last.value == pytest.approx(found.value[-1, :-1].mean())
    half = np.full((9, 6), 0.5)
    flat = changed(trajectory("pt0"), debiased=half, low=half - 0.1, high=half + 0.1)
    rest = [similarity("pt0", "pt1"), similarity("rit0", "rit1")]
    assert "does not measurably change" in words.answer([*rest, flat]).sentence
    gone = changed(trajectory("pt0"), debiased=np.full((9, 6), np.nan))
    assert "Over the training" not in words.answer([*rest, gone]).sentence


def test_panels_of_the_section(records):
    names = {
        name: [panel.name for panel in PARTS[name].panels(records)]
        for name in ("similarity", "similarity_shuffled", "similarity_by_step")
    }
    assert names["similarity_shuffled"] == [
        "shuffled-p-t-p-t", "shuffled-p-t-ri-t", "shuffled-ri-t-ri-t", "shuffled-p-t-p",
    ]  # fmt: skip
    assert names["similarity_by_step"] == ["steps-p-t-p", "steps-ri-t-p"]
    (axes, *_) = figures.similarity_by_step(records).axes
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks[0] == "0"
    assert ticks[-1] == "100"
    biased = figures.similarity(records).axes[1]
    assert (0.07,) * len(LAYERS) in {tuple(line.get_ydata()) for line in biased.get_lines()}


def test_additions_have_their_own_heading_after_the_paper(text):
    text = html.unescape(text)
    section = text[text.index('<section id="similarity">') :]
    section = section[: section.index("</section>")]
    order = ["In the paper", "<h3>On shuffled", "<h3>Over the training", "How it was computed"]
    at = [section.index(part) for part in order]
    assert at == sorted(at)
    assert text.count("<small>not in the paper</small>") == 10


class Result(NamedTuple):
    layers_x: tuple[str, ...]
    layers_y: tuple[str, ...]
    values: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def result(rows=4, columns=3, scale=1.0, band=False):
    i, j = np.arange(rows)[:, None], np.arange(columns)[None]
    values = scale * np.exp(-0.3 * np.abs(i - j)) - 0.1
    names = tuple(f"stage1_block{k}" for k in range(max(rows, columns)))
    ends = {"low": values - 0.1, "high": values + 0.1} if band else {}
    return Result(names[:rows], names[:columns], values, **ends)


def texts(axes):
    return [t.get_text() for t in axes.texts]


def test_a_heat_map_shows_negative_undefined_and_great_values():
    made = result()
    made.values[0] = (-0.034, np.nan, 1.234)
    made.values[1, 0] = 12.5
    (axes,) = figures.heat_map(made, "A title").axes
    assert axes.get_title(loc="left") == "A title"
    assert texts(axes)[:4] == ["−.03", "", "1.23", "12.5"]
    mesh, hatched = axes.collections
    assert hatched.get_hatch()
    assert mesh.get_clim() == (-12.5, 12.5)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["1.0", "1.1", "1.2", "1.3"]


def test_a_large_heat_map_has_a_scale_marks_and_legible_names():
    made = result(60, 60, 1.3)
    drawn = figures.heat_map(made)
    axes = drawn.axes[0]
    assert axes.get_title(loc="left") == "Similarity"
    assert texts(axes) == []
    (scale,) = axes.child_axes
    assert scale.get_ylim() == pytest.approx((-0.1, 1.2))
    marks = [len(c.get_offsets()) for c in axes.collections[1:]]
    assert marks == [int((made.values < -0.005).sum()), int((made.values > 1.005).sum())]
    height = axes.get_position().height * drawn.get_size_inches()[1]
    assert height / len(axes.get_yticklabels()) >= 0.1
    assert drawn.get_size_inches()[0] < 11


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.62, ".62"), (-0.004, ".00"), (-0.01, "−.01"), (1.0, "1.00"), (10.05, "10.1"), (np.nan, "")],
)
def test_cells_are_short(value, text):
    assert maps.cell(value) == text


def test_same_layers_of_results():
    given = {"two P-T": result(band=True), "mine": result(scale=0.5)}
    (axes,) = figures.same_layers(given).axes
    assert {t.get_text() for t in axes.texts} == set(given)
    first, second = axes.get_lines()[:2]
    assert first.get_color() == pair_colour(P_T)
    np.testing.assert_allclose(first.get_ydata(), [0.9, 0.9, 0.9])
    np.testing.assert_allclose(second.get_ydata(), [0.4, 0.4, 0.4])
    assert colour_of_words("P-T and RI-T") == pair_colour(MIXED)
    assert colour_of_words("RI-T / RI-T") == pair_colour(RI_T)
    assert colour_of_words("mine") is None


def test_over_steps_of_results_and_of_an_array():
    steps = [0, 1, 8, 100]
    (axes,) = figures.over_steps(steps, [result(scale=s) for s in (1, 0.9, 0.8, 0.7)]).axes
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [0.9, 0.8, 0.7, 0.6])
    np.testing.assert_allclose(axes.get_lines()[0].get_xdata()[:3], [0, 1, 4])
    assert sorted(texts(axes)) == ["1.0", "1.1", "1.2"]
    one = [result(scale=s) for s in (1, 0.9, 0.8, 0.7)]
    (axes,) = figures.over_steps(steps, one, names=["stage1_block1"]).axes
    assert texts(axes) == ["1.1"]
    grid = np.linspace(0, 1, 40).reshape(4, 10)
    (axes,) = figures.over_steps(steps, grid, names=[f"l{i}" for i in range(10)]).axes
    assert sorted(texts(axes)) == ["l0", "l2", "l4", "l5", "l7", "l9"]


def test_results_of_jax_arrays():
    jnp = pytest.importorskip("jax.numpy")
    made = result(band=True)
    made = made._replace(**{n: jnp.asarray(getattr(made, n)) for n in ("values", "low", "high")})
    assert len(figures.heat_map(made).axes) == 1
    figures.same_layers({"a": made})
    figures.over_steps([0, 1], [made, made])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: figures.heat_map(np.eye(3)), TypeError,
         "got a ndarray without layers_x, layers_y, values"),
        (lambda: figures.heat_map(result()._replace(values=np.eye(2))), ValueError,
         r"got values \(2, 2\) of 4 and 3 layers"),
        (lambda: figures.same_layers({}), ValueError, "expected at least one result"),
        (lambda: figures.same_layers({"a": result()._replace(layers_y=("x", "y", "z"))}),
         ValueError, "expected layers that both models have, .*figures.heat_map"),
        (lambda: figures.over_steps([0, 1], np.eye(2)), TypeError, "expected names"),
        (lambda: figures.over_steps([0, 1, 2], np.eye(2), names=["a", "b"]), ValueError,
         r"of 3 steps and 2 names, got \(2, 2\)"),
        (lambda: figures.over_steps([1, 0], np.eye(2), names=["a", "b"]), ValueError,
         "expected steps that increase from 0 or more"),
        (lambda: figures.over_steps([0, 1], [result()]), ValueError, "of 2 steps and 3 names"),
        (lambda: figures.over_steps([0], [result()], names=["x"]), ValueError,
         "expected layers that all results have, "),
        (lambda: figures.over_steps([], []), ValueError, "of 0 steps and 0 names"),
    ],
)  # fmt: skip
def test_results_that_do_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_of_many_layers_some_are_drawn():
    assert layers.thinned(6) == list(range(6))
    assert layers.thinned(26) == [0, 5, 10, 15, 20, 25]
