"""The landscape section: planes, basins and permutations, and what is missing of them."""

import numpy as np
import pytest

from tests.report.made import changed
from tests.report.synthetic import basin, permutation, plane
from tlx.report import figures, summary
from tlx.report.question import NOTHING
from tlx.report.questions import QUESTIONS
from tlx.report.questions.interpolation import words as interpolation_words
from tlx.report.questions.landscape import figure, numbers
from tlx.report.questions.landscape import words as landscape_words
from tlx.report.read import selection
from tlx.report.section import make, render
from tlx.report.words.kinds import pair
from tlx.report.words.verdicts import AGREES, DIFFERS, OPEN, P_T, RI_T


def test_the_answer_of_the_fixture(records):
    answer = landscape_words.answer(records)
    assert answer.sentence == (
        "Two P-T live in one basin: on the line between them the error rises 0.6 [0.1, 1.4] "
        "points above the chord (2 allowed), the loss 0.010 [0.000, 0.030] nats. Two RI-T do not "
        "live in one basin: on the line between them the error rises 78.0 [77.5, 78.8] points "
        "above the chord (2 allowed), the loss 2.10 [2.03, 2.17] nats. Permutation alignment of "
        "two RI-T lowers the loss barrier between them: from 2.10 [2.08, 2.12] nats and "
        "78 [76, 80] points of accuracy as trained to 1.30 [1.28, 1.32] nats and 56 [54, 58] "
        "points of accuracy matched by weights, 1.05 [1.03, 1.07] nats and 48 [46, 50] points of "
        "accuracy matched by activations, 0.36 [0.34, 0.38] nats and 23 [21, 25] points of "
        "accuracy matched by them and renormalised."
    )
    row = next(row for row in summary.headline(records).rows if "basin" in row[0])
    assert row[1:] == ("yes", "no data", "no", "agrees")


@pytest.mark.parametrize(
    ("verdicts", "said", "verdict", "cell"),
    [
        (["yes", "yes"], "Two P-T live in one basin", AGREES, "yes"),
        (["yes", "open"], "Two P-T live in one basin in 1 of 2 pairs", OPEN, "yes in 1 of 2"),
        (["open"], "Whether two P-T live in one basin stays open", OPEN, "open"),
        (["yes", "no"], "Unlike in the paper, two P-T live in one basin in 1 of 2 pairs", DIFFERS,
         "yes in 1 of 2"),
        (["no"], "Unlike in the paper, two P-T do not live in one basin", DIFFERS, "no"),
    ],
)  # fmt: skip
def test_verdicts_of_several_pairs(verdicts, said, verdict, cell):
    ends = {"yes": (0.0, 0.02), "open": (0.01, 0.03), "no": (0.03, 0.05)}
    made = [
        changed(basin("pt0", "pt1"), verdict=v, error_low=ends[v][0], error_high=ends[v][1])
        for v in verdicts
    ]
    answer = landscape_words.answer(made)
    assert answer.sentence.startswith(said + ": ")
    assert answer.verdict == verdict
    assert cell in summary.headline(made).text()
    names = [row[0] for row in landscape_words.table(made).rows]
    assert names == (["P-T / P-T (1)", "P-T / P-T (2)"] if verdicts[1:] else ["P-T / P-T"])


@pytest.mark.parametrize("word", ["yes", "no", "open"])
@pytest.mark.parametrize("ends", [(0.03, 0.18), (0.0, 0.18), (0.0, 0.01), (np.nan, np.nan)])
def test_a_basin_is_one_only_where_word_and_interval_say_so(word, ends):
    made = changed(basin("pt0", "pt1"), verdict=word, error_low=ends[0], error_high=ends[1])
    found = numbers.basins([made])[P_T][0].verdict
    by_interval = {(0.03, 0.18): "no", (0.0, 0.01): "yes"}.get(ends, "open")
    assert found == (word if word == by_interval else "open")


def test_an_undefined_basin_has_no_numbers():
    gone = dict.fromkeys(("barrier", "error_barrier", "epsilon", "delta", "tolerance"), np.nan)
    gone |= dict.fromkeys(("noise_rise", "beyond_rise"), np.full(13, np.nan))
    made = [changed(basin("pt0", "pt1"), verdict="open", **gone)]
    assert landscape_words.answer(made).sentence == "Whether two P-T live in one basin stays open."
    assert "no data" in landscape_words.table(made).text()
    assert len(figures.landscape(made).axes) == 1


def test_intervals_of_several_pairs_are_averaged():
    ends = [(0.0, 0.1), (0.2, 0.5)]
    made = [
        changed(basin("pt0", "pt1"), error_low=low, error_high=high, error_barrier=high / 2)
        for low, high in ends
    ]
    assert "the error rises 15 [10, 30] points" in landscape_words.answer(made).sentence


def test_a_loss_in_nats_has_its_unit():
    made = changed(basin("pt0", "pt1"), options={"loss": "loss"})
    assert numbers.basins([made])[P_T][0].unit == "nats"
    assert figures.landscape([made]).axes[0].get_ylabel() == "rise of the loss, nats"
    assert figures.landscape([basin("pt0", "pt1")]).axes[0].get_ylabel().endswith("points")


def test_planes_alone():
    made = [plane("rit0", "rit1", "pt0"), plane("pt0", "pt1", "rit0")]
    first, second = numbers.planes(made)
    assert first.labels == ("P-T 1", "P-T 2", "RI-T 1")
    assert second.labels == ("RI-T 1", "RI-T 2", "P-T 1")
    answer = landscape_words.answer(made)
    assert answer.short == "So far only two planes through three models can be shown."
    assert answer.verdict == ""
    (alone,) = numbers.planes(made[:1])
    assert alone.labels == ("RI-T 1", "RI-T 2", "P-T")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda v: np.where(v > 4, np.nan, v), id="undefined at some"),
        pytest.param(lambda v: np.full_like(v, np.nan), id="undefined everywhere"),
        pytest.param(lambda v: np.where(v > 4, np.inf, v), id="infinite at some"),
        pytest.param(lambda v: v**12, id="over many decades"),
        pytest.param(np.ones_like, id="flat"),
        pytest.param(np.zeros_like, id="zero"),
    ],
)
def test_a_plane_of_any_loss(change):
    made = plane("pt0", "pt1", "rit0")
    loss = change(np.asarray(made.results.loss))
    assert len(figures.landscape([changed(made, loss=loss)]).axes) == 2


def test_levels_span_the_losses_in_round_numbers():
    planes = numbers.planes([plane("pt0", "pt1", "rit0")])
    levels = figure.loss_levels(planes)
    assert levels[0] <= planes[0].loss.min()
    assert levels[-1] >= planes[0].loss.max()
    assert levels == sorted(levels)
    assert 4 <= len(levels) <= 10
    wild = [planes[0]._replace(loss=planes[0].loss ** 9)]
    assert figure.loss_levels(wild)[0] == 0.001
    assert figure.loss_levels(wild)[-1] == 10


def test_labels_of_neighbours_in_a_plane_go_apart():
    near = plane("pt0", "pt1", "rit0")
    far = np.array([[0.0, 0.0], [0.2, 0.0], [0.1, 8.4]])
    axes = figures.landscape([changed(near, models_xy=far)]).axes[0]
    sides = {text.get_text(): text.get_ha() for text in axes.texts}
    assert sides == {"P-T 1": "right", "P-T 2": "left", "RI-T": "center"}


OF_VARIANTS = ("variants", "loss", "accuracy", "distance", *(
    f"{name}{end}" for name in ("barrier", "accuracy_barrier") for end in ("", "_low", "_high")
))  # fmt: skip


def of_variant(record, i, name, value, half):
    """The record with another value of a variant, so far from both ends of its interval."""
    ends = {name: value, f"{name}_low": value - half, f"{name}_high": value + half}
    each = np.arange(len(record.variants)) == i
    return changed(record, **{n: np.where(each, v, getattr(record, n)) for n, v in ends.items()})


def test_permutations_with_some_variants_only():
    made = permutation("rit0", "rit1")
    kept = changed(made, **{n: getattr(made, n)[:2] for n in OF_VARIANTS})
    sentence = landscape_words.answer([kept]).sentence
    assert sentence.endswith("to 1.30 [1.28, 1.32] nats and 56 [54, 58] points of accuracy matched "
                             "by weights.")  # fmt: skip
    assert [row[0] for row in landscape_words.permutation_table([kept]).rows] == [
        "as trained",
        "matched by weights",
    ]
    assert len(figures.permutation([kept]).axes) == 2


@pytest.mark.parametrize(
    ("height", "half", "said"),
    [
        (0.5, 0.1, "lowers the loss barrier between them: "),
        (2.05, 0.1, "does not measurably lower the loss barrier by each of the matchings between"),
        (2.3, 0.1, "does not lower the loss barrier by each of the matchings between them: "),
        (0.5, np.nan, "changes the measured loss barrier between them: "),
    ],
)
def test_a_matching_lowers_a_barrier_where_its_interval_says_so(height, half, said):
    made = of_variant(permutation("rit0", "rit1"), 1, "barrier", height, half)
    assert f"Permutation alignment of two RI-T {said}" in landscape_words.answer([made]).sentence


def test_without_a_barrier_there_is_nothing_to_take_away():
    made = permutation("rit0", "rit1")
    made = of_variant(made, 0, "barrier", 0.03, 0.03)
    made = of_variant(made, 0, "accuracy_barrier", 0.005, 0.005)
    assert landscape_words.answer([made]) == NOTHING


def test_only_pairs_of_ri_t_are_permuted():
    made = changed(permutation("rit0", "rit1"), inputs={"kind_a": "P-T"})
    assert numbers.permuted([made]) == []
    found = numbers.permuted([permutation("rit0", "rit1")] * 2)
    assert {v.num_pairs for v in found} == {2}
    assert pair("RI-T", "RI-T") == RI_T


def test_batch_statistics_are_said():
    made = [
        changed(r, statistics="re-estimated")
        for r in (plane("pt0", "pt1", "rit0"), permutation("rit0", "rit1"))
    ]
    assert landscape_words.caption(made).endswith(" Batch statistics: re-estimated.")
    assert landscape_words.permutation_caption(made).endswith(" Batch statistics: re-estimated.")
    assert "Batch statistics" not in landscape_words.caption([plane("pt0", "pt1", "rit0")])


def test_intervals_have_their_level(records):
    assert selection.confidence(records, "interpolation") == "95%"
    assert selection.confidence(records, "basin") == "95%"
    assert selection.confidence(records, "distances") == ""
    assert interpolation_words.caption(records).endswith(" Brackets: 95% intervals.")
    assert summary.headline(records).columns[0] == "95% intervals"
    assert summary.headline([]).columns[0] == ""


def test_an_old_study_has_no_data(records):
    old = [r for r in records if r.question not in ("plane", "basin", "permutation")]
    section = make(QUESTIONS["landscape"], old)
    assert section.num_figures == 0
    assert "No data" in render(section, 4)
    assert any("basin" in row[0] for row in summary.headline(records).rows)
    assert not any("basin" in row[0] for row in summary.headline(old).rows)
