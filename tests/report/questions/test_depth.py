"""The section about single layers: probes, partial transfer, spectra, and what is missing."""

import math

import numpy as np
import pytest

from tests.report.made import changed, record_of
from tests.report.synthetic import curve, layers, part, probes, spectra
from tlx.report import figures, summary
from tlx.report.question import NOTHING
from tlx.report.questions import PARTS, QUESTIONS
from tlx.report.questions.depth import figure, numbers, words
from tlx.report.read import learning
from tlx.report.section import make, render
from tlx.report.words.kinds import colour
from tlx.report.words.numbers import Estimate, proportion

PROBES = ("P", "P-T", "RI-T", "RI")


def test_the_answer_of_the_fixture(records):
    answer = words.answer(records)
    probed = (
        "The target's classes can be read from P better than from random weights: from layer 3.1, "
        "P's highest, a linear probe gets 90.0 [88.0, 91.0]% of the test images right, against "
        "40.0 [38.0, 41.0]% with random weights"
    )
    assert answer.sentence == (
        f"{probed}; after training on the target it is 96.0 [94.0, 97.0]% in P-T and 93.0 [91.0, "
        "94.0]% in RI-T. With P's first two modules or more no run ends measurably below "
        "P-T (96.5 ± 0.5%): 96.1 ± 0.5%; with k = 1 one does, 91.8 ± 0.7%. Freezing the modules "
        "taken from P changes the accuracy by −9.2 ± 1.0 points (k = 2). In the median over "
        "layers (least to greatest), the stable rank of P-T is 0.64 (0.64 to 0.64) times that of "
        "P, that of RI-T 0.25 (0.25 to 0.25)."
    )
    assert answer.short == f"{probed}."
    assert answer.verdict == ""


def test_captions(records):
    assert PARTS["linear_probes"].caption(records) == (
        "The target's classes as a linear probe reads them from each layer, fitted to 400 training "
        "images; bands are 95% intervals over n = 1,397 test images (1 P, 1 P-T, 1 RI-T, 1 RI). RI "
        "has random weights, before any training. The second panel is what training added to "
        "random weights, with the intervals of a difference between independent samples. Feature "
        "maps are averaged over their positions."
    )
    assert PARTS["partial_transfer"].caption(records) == (
        "Fine-tuning where only the first k modules, or all but those, start from P (five runs); "
        "the others start fresh, and all is trained as P-T is, which need not be as RI-T is. "
        "Dashed: those taken from P stay as they are. The horizontal lines are P-T, which takes "
        "all modules of the body, and RI-T. Bars and bands are one binomial standard error "
        "(n = 1,397 test images, 400 training images)."
    )
    assert PARTS["spectra"].caption(records) == (
        "Singular values of the layers, the largest first: convolutions as maps of whole feature "
        "maps with their borders joined. One model of each kind (P, P-T 1, RI-T 1), after its last "
        "step. Values below 1/1,000 of the largest of all are cut off."
    )


def test_partial_runs_are_in_no_other_number(records):
    alone = [r for r in records if not r.inputs.get("part")]
    assert len(alone) == len(records) - 5
    assert {c.kind for c in learning.curves(records, None)} == {"P-T", "RI-T"}
    assert summary.headline(records) == summary.headline(alone)
    for name in ("training", "shuffle"):
        assert PARTS[name].caption(records) == PARTS[name].caption(alone)
        assert PARTS[name].table(records) == PARTS[name].table(alone)
    lines = [len(axes.lines) for axes in figures.training(records).axes]
    assert lines == [len(axes.lines) for axes in figures.training(alone).axes]


def test_probes_of_several_runs_are_averaged():
    two = [changed(probes("P-T", top), inputs={"run": f"P-T {top}"}) for top in (0.8, 0.9)]
    found = numbers.linear_probes([*two, probes("RI", 0.4, step=0)])
    assert list(found) == ["P-T", "RI"]
    own = found["P-T"]
    assert own.num_runs == 2
    assert own.best() == "stage3_block1"
    value = own.of("stage3_block1")
    assert value.value == pytest.approx(0.85)
    assert value.interval == pytest.approx((0.83, 0.86))
    assert not own.of("no such layer").known


def test_only_the_last_step_on_test_images_of_the_plain_target_is_probed():
    last = probes("P", 0.9, step=100)
    other = [
        probes("P", 0.5, step=10),
        changed(probes("P", 0.6), inputs={"shuffle": "block:8"}),
        changed(probes("P", 0.7), inputs={"split": "train"}),
    ]
    (found,) = numbers.linear_probes([last, *other]).values()
    assert found.num_runs == 1
    assert found.accuracy.max() == 0.9


def test_a_gain_has_the_interval_of_a_difference():
    # Newcombe's example (1998, table II): 56/70 - 48/80 has [0.0524, 0.3339] by method 10.
    one = Estimate(56 / 70, interval=(0.6917, 0.8776))
    other = Estimate(48 / 80, interval=(0.4904, 0.7003))
    gain = numbers.gain(one, other)
    assert gain.value == pytest.approx(0.2)
    assert gain.interval == pytest.approx((0.0524, 0.3339), abs=1e-3)
    assert numbers.gain(one, Estimate(0.6)).interval is None


def test_random_weights_that_are_as_good():
    sentence = words.answer([probes("P", 0.9), probes("RI", 0.89, step=0)]).sentence
    assert sentence.startswith(
        "The target's classes can be read from P not measurably better than from random weights: "
    )
    ends = {"low": [0.1] * 6, "high": [0.6] * 6}
    best = changed(probes("RI", 0.4), accuracy=[0.5, 0.1, 0.1, 0.2, 0.2, 0.2], **ends)
    sentence = words.answer([probes("P", 0.9), best]).sentence
    assert sentence.endswith(
        "against 20 [10, 60]% with random weights (50 [10, 60]% at their highest, stem)."
    )


def test_probes_without_p_or_random_weights():
    answer = words.answer([probes("P-T", 0.96), probes("RI", 0.4, step=0)])
    assert (
        answer.sentence
        == answer.short
        == (
            "The most of the target's test images that a linear probe was measured to get right is "
            "96.0 [94.0, 97.0]% from layer 3.1 of P-T and 40.0 [38.0, 41.0]% from layer "
            "3.1 of random weights."
        )
    )
    assert len(figures.linear_probes([probes("P", 0.9)]).axes) == 1


def test_probes_that_are_undefined():
    nothing = dict.fromkeys(("accuracy", "low", "high"), np.full(6, np.nan))
    made = changed(probes("P", 0.9), **nothing)
    assert words.answer([made]) == NOTHING
    assert figure.linear_probes([made]) == []
    assert "no data" in PARTS["linear_probes"].table([made]).text()
    some = np.array([0.5, np.nan, np.inf, 0.8, 0.8, 0.7])
    mixed = changed(probes("P", 0.9), accuracy=some)
    assert len(figures.linear_probes([mixed, probes("RI", 0.4, step=0)]).axes) == 2
    assert numbers.linear_probes([mixed])["P"].best() == "stage3_block1"


def ends(final, k="first:1", **more):
    return [*(curve(kind, "none", 0) for kind in ("P-T", "RI-T")), part(k, final, **more)]


BELOW = "ends measurably below P-T (96.3 ± 0.5%)"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (ends(0.92), f"With P's first module a run {BELOW}: 91.8 ± 0.7%."),
        (ends(0.6, "first:0"), f"With fresh weights a run {BELOW}: 59.8 ± 1.3%."),
        (
            [*ends(0.9), part("first:2", 0.92), part("first:0", 0.6)],
            f"With P's first two modules, the most that were tried, a run {BELOW}: 91.8 ± 0.7%.",
        ),
        (  # more are worse than less
            [*ends(0.963), part("first:2", 0.92)],
            f"With P's first two modules, the most that were tried, a run {BELOW}: 91.8 ± 0.7%.",
        ),
        (ends(0.963), f"With P's first module no run {BELOW}: 96.1 ± 0.5%."),
        (ends(0.963, "first:0"), f"With fresh weights no run {BELOW}: 96.1 ± 0.5%."),
        (  # a k is not enough where a larger one is not
            [*ends(0.963), part("first:2", 0.9), part("first:3", 0.964)],
            f"With P's first three modules no run {BELOW}: 96.2 ± 0.5%; with k = 2 one does, "
            "89.8 ± 0.8%.",
        ),
        (
            [*ends(0.963), part("first:1:frozen", 0.962)],
            f"With P's first module no run {BELOW}: 96.1 ± 0.5%. Freezing the modules taken from P "
            "makes no measurable difference: −0.1 ± 0.7 points (k = 1).",
        ),
    ],
)
def test_how_many_modules_are_enough(made, said):
    assert words.answer(made).sentence == said


def test_what_freezing_changes_at_several_k():
    made = [part(f"first:{k}", 0.9) for k in (0, 1, 2, 3)]
    made += [part(f"first:{k}:frozen", v) for k, v in {0: 0.1, 1: 0.94, 2: 0.8, 3: 0.85}.items()]
    assert words.answer(made).sentence == (
        "Freezing the modules taken from P changes the accuracy by −9.9 ± 1.3 points (k = 2) to "
        "+4.0 ± 1.0 points (k = 1)."
    )


def test_partial_runs_by_way_and_k():
    made = [part("first:10", 0.9), part("first:2", 0.8), part("first:2", 0.7), part("odd", 0.5)]
    made.append(part("except:1:frozen", 0.6))
    found = numbers.partial(made)
    assert list(found) == ["first", "except:frozen"]
    assert list(found["first"]) == [2, 10]
    value = numbers.final_by_k(found["first"])[2]
    each = [proportion(r.results.test_accuracy[-1], 1_397) for r in made[1:3]]
    assert value.value == pytest.approx(np.mean([e.value for e in each]))
    assert value.error == pytest.approx(np.mean([e.error for e in each]))
    table = PARTS["partial_transfer"].table(made)
    assert table.columns == ("modules from P", "first k", "all but first k, frozen")
    assert [row[0] for row in table.rows] == ["k = 1", "k = 2", "k = 10"]


def test_a_partial_run_that_was_never_tested_has_no_data():
    gone = changed(part("first:1", 0.9), test_accuracy=np.full(31, np.nan))
    assert PARTS["partial_transfer"].table([gone]).rows == (("k = 1", "no data"),)
    drawn = figure.partial_transfer([gone])
    assert [panel.name for panel in drawn] == ["speed"]
    assert words.answer([gone]) == NOTHING


def test_partial_transfer_stands_beside_the_whole(records):
    final, speed = figures.partial_transfer(records).axes
    for axes in (final, speed):
        labels = [text.get_text() for text in axes.texts]
        assert sorted(labels) == [
            "P-T, all", "RI-T, none", "all but first k", "first k", "first k, frozen",
        ]  # fmt: skip
        assert axes.get_xticks().tolist() == [1, 2, 3]
    heights = {line.get_color(): line.get_ydata()[0] for line in final.lines[:2]}
    found = learning.curves(records)
    for kind in ("P-T", "RI-T"):
        assert heights[colour(kind)] == pytest.approx(100 * learning.final(found, kind).value)


def test_spectra_are_of_the_last_step_of_the_first_run():
    made = [changed(spectra("P", 3.0), inputs={"run": "P-T 2", "kind": "P-T"})]
    made += [spectra("P-T", 1.25), changed(spectra("P", 7.0), inputs={"shuffle": "block:8"})]
    (found,) = numbers.spectra(made).values()
    assert found.run == "P-T 1"
    np.testing.assert_allclose(found.spectral_norm, [1.25, 2.5, 3.75, 5.0])
    columns = ("layer", "P-T, stable rank", "P-T, largest value")
    table = PARTS["spectra"].table(made)
    assert table.columns == columns
    assert table.rows[0] == ("1.1/conv", "7.68", "1.25")


def test_ratios_are_of_layers_that_both_have():
    few, many = (numbers.spectra([spectra(k, t, num_layers=n)])[k]
                 for k, t, n in (("P-T", 2.0, 3), ("P", 1.0, 5)))  # fmt: skip
    np.testing.assert_allclose(numbers.ratios(few, many), [0.25] * 3)
    gone = few._replace(stable_rank=np.array([np.nan, np.inf, 24.0]))
    np.testing.assert_allclose(numbers.ratios(gone, many), [24 / 36])
    none = few._replace(names=["a", "b", "c"])
    assert numbers.ratios(none, many).size == 0


def test_one_kind_of_operator_is_shown():
    made = [changed(spectra("P", 3.0), options={"kind": "reshaped"}), spectra("P", 1.0)]
    assert numbers.operator(made) == "circular"
    assert numbers.spectra(made)["P"].spectral_norm[0] == 1.0
    assert "the kernels of convolutions as matrices" in PARTS["spectra"].caption(made[:1])


def test_of_many_layers_some_are_drawn():
    made = [spectra("P", 1.0, num_layers=40)]
    panels = figure.spectra(made)
    assert [panel.title for panel in panels][:2] == ["1.1/conv", "7.1/conv"]
    assert panels[-1].title == "40.1/conv"
    assert len(panels) == figure.MOST
    assert PARTS["spectra"].caption(made).startswith("Singular values of 8 of 40 layers")
    assert len(PARTS["spectra"].table(made).rows) == 40


def test_singular_values_stand_at_their_logarithms():
    made = spectra("P", 1.0)
    axes = figures.spectra([made]).axes[3]
    values = np.asarray(made.results.singular_values)[3]
    shown = values >= figure.CUT * 4
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_ydata()[shown], np.log10(values[shown]))
    assert np.isnan(line.get_ydata()[~shown]).all()
    assert 0 < (~shown).sum() < shown.sum()
    assert [t.get_text() for t in axes.get_yticklabels()] == ["0.01", "0.1", "1"]


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_spectra_without_values(value):
    made = changed(
        spectra("P", 1.0),
        singular_values=np.full((4, 101), value),
        stable_rank=np.full((2, 4), np.nan),
        spectral_norm=np.full((2, 4), value),
    )
    assert figure.spectra([made]) == []
    cell = {0.0: "0", math.inf: "∞"}.get(value, "no data")
    assert PARTS["spectra"].table([made]).rows[0] == ("1.1/conv", "no data", cell)
    assert words.answer([made, changed(made, inputs={"kind": "P-T"})]) == NOTHING
    assert len(figure.spectra([made, spectra("P-T", 1.0)])) == 4


def test_a_record_without_what_is_needed_is_left_out():
    inputs = {"run": "P", "kind": "P"}
    made = record_of("linear_probes", inputs=inputs, results={"layers": ["stem"]})
    assert words.answer([made]) == NOTHING


def test_the_section_with_and_without_its_parts(records):
    text = render(make(QUESTIONS["depth"], records), 3)
    headings = (
        "Linear probes",
        "Starting from some",
        "The singular values of the layers",
        "In the paper",
    )
    places = [text.index(words) for words in headings]
    assert places == sorted(places)
    assert text.count("not in the paper") == 2
    for question, gone in (("linear_probes", 0), ("learning_curve", 1), ("spectra", 2)):
        left = [r for r in layers() if r.question != question]
        section = make(QUESTIONS["depth"], left)
        assert section.num_figures == 2
        assert headings[gone] not in render(section, 3)
    empty = make(QUESTIONS["depth"], [])
    assert empty.num_figures == 0
    assert "No data" in render(empty, 3)
