"""The section on mistakes: what two models share, against chance, and which images."""

import base64
import io
import itertools
import re

import numpy as np
import pytest
from PIL import Image

from tests.report.made import changed, without
from tests.report.synthetic_mistakes import NUM, mistakes
from tlx.analyses.function import inference
from tlx.analyses.function.mistakes import CELLS
from tlx.report import figures, summary
from tlx.report.draw.svg import svg as as_svg
from tlx.report.question import NOTHING
from tlx.report.questions import PARTS
from tlx.report.questions.mistakes import figure, numbers, words
from tlx.report.words.verdicts import AGREES, DIFFERS, MIXED, OPEN, P_T, RI_T

NEITHER, ONLY_B, ONLY_A, COMMON = range(4)
ONE_EACH = ("P-T", "RI-T")


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_answer_of_the_fixture(records):
    answer = words.answer(records)
    assert answer.sentence == (
        "Two P-T make more similar mistakes than two RI-T: Cohen's kappa is 0.74 [0.66, 0.81] "
        "against 0.49 [0.41, 0.56] (P-T and RI-T: 0.11 [0.03, 0.18]). Of 1,397 test images two "
        "P-T get 44 wrong together (by chance 2.4), P-T and RI-T 16 (5.8), two RI-T 75 (13.6)."
    )
    assert answer.short == (
        "Two P-T make more similar mistakes than two RI-T: Cohen's kappa is 0.74 [0.66, 0.81] "
        "against 0.49 [0.41, 0.56]."
    )
    assert [(c.claim, c.verdict) for c in answer.checks] == [
        ("the mistakes of two P-T are more alike", AGREES),
        ("two P-T have more mistakes in common than independent errors would give", AGREES),
    ]
    row = summary.headline(records).rows[-1]
    assert row[0] == "Error agreement, kappa"
    assert row[1:] == ("0.74 [0.66, 0.81]", "no data", "0.49 [0.41, 0.56]", "agrees")


@pytest.mark.parametrize("kinds", [("P-T",) * 3 + ("RI-T",) * 2, ("RI-T", "P-T", "RI-T", "P-T")])
def test_means_over_pairs(kinds):
    record = mistakes(kinds, num=4_000)
    found = numbers.mistakes([record])
    results = record.results
    for wanted, group in found.groups.items():
        pairs = [
            (a, b)
            for a, b in itertools.permutations(range(len(kinds)), 2)
            if (kinds[a], kinds[b]) == wanted
        ]
        assert group.num_pairs == len({frozenset(p) for p in pairs}) == len(found.pairs[wanted])
        for field, got in (("cells", group.cells), ("cells_by_class", group.by_class)):
            np.testing.assert_allclose(
                got, np.mean([getattr(results, field)[p] for p in pairs], axis=0)
            )
        for name in ("kappa", "capa"):
            got = getattr(group, name)
            value, low, high = (
                np.mean([getattr(results, name + end)[p] for p in pairs])
                for end in ("", "_low", "_high")
            )
            if wanted == P_T and kinds.count("P-T") == 3:  # over the runs
                once = [p for p in pairs if p[0] < p[1]]
                each = [getattr(results, name)[p] for p in once]
                _, low, high, *_ = inference.mean_over_pairs(each, once)
            np.testing.assert_allclose((got.value, *got.interval), (value, low, high))
        assert group.p_holm == min(results.p_holm[p] for p in pairs)
        # every judgement of a cell counts once: sums over the pairs, not means of means
        for cell in (ONLY_A, COMMON):
            counts = [results.cells[p][cell] for p in pairs]
            margins = [results.margin[p][cell] for p in pairs]
            np.testing.assert_allclose(group.margin[0, cell], np.average(margins, weights=counts))
            exchanged = {ONLY_A: ONLY_B, COMMON: COMMON}[cell]
            margins = [results.margin[b, a][exchanged] for a, b in pairs]
            np.testing.assert_allclose(group.margin[1, cell], np.average(margins, weights=counts))


def test_the_first_of_a_mixed_pair_is_p_t_and_of_a_kind_neither_is():
    found = numbers.mistakes([mistakes(("RI-T", "P-T", "P-T"), num=500)])
    mixed, alike = found.groups[MIXED], found.groups[P_T]
    assert mixed.cells[ONLY_A] < mixed.cells[ONLY_B]  # P-T alone is wrong less often
    assert alike.cells[ONLY_A] == alike.cells[ONLY_B]
    assert [g.name for g in found.pairs[MIXED]] == ["P-T 1 & RI-T 1", "P-T 2 & RI-T 1"]
    assert [g.name for g in found.pairs[P_T]] == ["P-T 1 & P-T 2"]
    assert found.missing == [RI_T]


def test_p_values_may_stand_on_one_side_of_the_diagonal():
    record = mistakes(("RI-T", "P-T", "P-T"), num=500)
    upper = np.where(np.tri(3, dtype=bool), np.nan, record.results.p_holm)
    one, both = (numbers.mistakes([r]) for r in (changed(record, p_holm=upper), record))
    for kinds in (P_T, MIXED):
        assert one.groups[kinds].p_holm == both.groups[kinds].p_holm


@pytest.mark.parametrize(
    ("p_t", "ri_t", "verdict", "lead"),
    [
        ((0.6, 0.5, 0.7), (0.3, 0.2, 0.4), AGREES, "Two P-T make more similar mistakes"),
        ((0.3, 0.2, 0.4), (0.6, 0.5, 0.7), DIFFERS, "Unlike in the paper, two RI-T make more"),
        ((0.6, 0.4, 0.8), (0.5, 0.3, 0.7), OPEN, "The mistakes of two P-T are not measurably"),
    ],
)
def test_alike_is_said_where_the_intervals_do_not_overlap(p_t, ri_t, verdict, lead):
    record = mistakes(num=500)
    kinds = record.results.kinds
    table = np.where((kinds == "P-T")[:, None, None], p_t, ri_t)
    table = np.broadcast_to(table, (4, 4, 3))
    made = changed(record, kappa=table[..., 0], kappa_low=table[..., 1], kappa_high=table[..., 2])
    answer = words.answer([made])
    assert answer.checks[0].verdict == verdict
    assert answer.sentence.startswith(lead)


@pytest.mark.parametrize(("low", "high", "verdict"), [(-0.2, 0.1, OPEN), (-0.3, -0.1, DIFFERS)])
def test_mistakes_in_common_are_held_against_chance(low, high, verdict):
    record = mistakes(("P-T", "P-T"), num=500)
    middle, low, high = (np.full((2, 2), x) for x in ((low + high) / 2, low, high))
    made = changed(record, kappa=middle, kappa_low=low, kappa_high=high)
    answer = words.answer([made])
    assert [c.verdict for c in answer.checks] == [verdict]
    how = {OPEN: "not measurably more", DIFFERS: "fewer"}[verdict]
    assert f"Two P-T have {how} mistakes in common than independent errors" in answer.short


def test_one_run_a_kind_says_nothing_of_two():
    made = [mistakes(ONE_EACH, num=500)]
    answer = words.answer(made)
    assert answer.sentence.startswith("P-T and RI-T have ")
    assert answer.sentence.endswith(
        "No data about two P-T and two RI-T: one P-T run and one RI-T run were compared."
    )
    assert answer.checks == ()
    table = PARTS["mistakes"].table(made)
    assert [row[0] for row in table.rows] == ["P-T / P-T", "P-T / RI-T", "RI-T / RI-T"]
    for row in (table.rows[0], table.rows[2]):
        assert row[1:] == ("0", *["no data"] * 9)
    assert summary.headline(made).rows[-1][1:] == ("no data", "no data", "")
    bars, coefficients, _, _ = figures.mistakes(made).axes
    assert texts(bars) == ["no data"] * 2
    assert texts(coefficients) == ["no data"] * 4


def test_the_table_has_a_row_a_kind_and_a_row_a_pair(records):
    table = PARTS["mistakes"].table(records)
    assert [row[0] for row in table.rows] == [
        "P-T / P-T",
        "P-T / RI-T",
        "P-T 1 & RI-T 1", "P-T 1 & RI-T 2", "P-T 2 & RI-T 1", "P-T 2 & RI-T 2",
        "RI-T / RI-T",
    ]  # fmt: skip
    assert table.rows[0] == (
        "P-T / P-T", "1", "44", "2.4", "14.5", "14.5",
        "0.74 [0.66, 0.81]", "0.69 [0.63, 0.74]", "4.72%", "1.000", "1.000",
    )  # fmt: skip
    assert table.rows[2][2:6] == ("15", "5.7", "43", "123")
    assert table.rows[2][-2:] == ("<0.001", "<0.001")
    many = PARTS["mistakes"].table([mistakes(("P-T",) * 3 + ("RI-T",) * 4, num=200)])
    assert [row[1] for row in many.rows] == ["3", "12", "6"]


def test_what_was_not_measured_is_no_data():
    record = mistakes(num=500)
    nan = np.full((4, 4), np.nan)
    lacks = ("margin", "p_holm", "disagreement", "expected_common_by_class")
    gone = {"capa": nan, "capa_low": nan, "capa_high": nan}
    made = [without(changed(record, **gone), lambda name: name in lacks)]
    row = PARTS["mistakes"].table(made).rows[0]
    assert (row[7], row[8], row[10]) == ("no data",) * 3
    drawn = figures.mistakes(made)
    assert [a.get_title(loc="left") for a in drawn.axes] == [
        "Mistakes of two models", "Are the mistakes alike?", "By class",
    ]  # fmt: skip
    assert texts(drawn.axes[1]) == ["no data"] * 3  # the three of CAPA
    assert words.answer([changed(record, kappa=nan)]) == NOTHING
    assert summary.headline([changed(record, kappa=nan)]).rows[-1][1] == "no data"
    without_gallery = without(record, lambda name: "gallery" in name)
    assert figure.gallery([without_gallery]) == []
    assert PARTS["gallery"].caption([without_gallery]) == ""


def test_one_model_has_no_pair():
    made = [mistakes(("P-T",), num=100)]
    assert words.answer(made) == NOTHING
    assert PARTS["mistakes"].table(made) is None
    assert figure.mistakes(made) == []


def test_another_split_is_left_out_where_there_is_the_test_split():
    test, train = mistakes(num=300), mistakes(num=200)
    train = changed(train, inputs={"split": "train"})
    assert numbers.mistakes([train, test]).num_images == 300
    assert numbers.mistakes([train]).num_images == 200


def test_captions(records):
    assert PARTS["mistakes"].caption(records) == (
        f"Mistakes of two models on n = {NUM:,} test images, means over the pairs (1 P-T / P-T, "
        "4 P-T / RI-T, 1 RI-T / RI-T). Bars are what both get wrong and what only the first or "
        "only the second does (of two of a kind, what each does alone); the line across a bar is "
        "what independent errors at the same rates would have in common. Kappa and CAPA with 95% "
        "intervals; small ticks are single pairs. The margin is the probability of the label less "
        "the largest other one: where it is below 0 the model is wrong (filled), above 0 right "
        "(open)."
    )
    assert PARTS["gallery"].caption(records) == (
        "Test images that P-T 1, RI-T 1 or both get wrong, those first of which the wrong answer "
        "is most confident: the true class, and the answers of the two models with their "
        "probabilities. The pixels are those that the models get, before normalisation."
    )
    several = [mistakes(num_classes=14, num=300, is_multilabel=True)]
    caption = PARTS["mistakes"].caption(several)
    assert "n = 300 test images with 14 labels each, on from a probability of 0.5," in caption
    assert "Of 14 labels the 12 with the most mistakes are shown." in caption
    assert "a label and whether it is on" in PARTS["gallery"].caption(several)


@pytest.mark.parametrize("num_classes", [2, 10, 345])
def test_the_classes_that_are_drawn(num_classes):
    record = mistakes(num_classes=num_classes, num=3_000)
    found = numbers.mistakes([record])
    chosen = figure.classes(found)
    axes = figures.mistakes([record]).axes[2]
    assert [t.get_text() for t in axes.get_yticklabels()] == list(map(str, chosen))
    if num_classes <= figure.MOST_CLASSES:
        assert chosen == list(range(num_classes))
        assert axes.get_title(loc="left") == "By class"
        return
    wrong = sum(g.by_class[:, 1:].sum(1) for g in found.groups.values())
    assert wrong[chosen].tolist() == sorted(wrong, reverse=True)[: len(chosen)]
    assert axes.get_title(loc="left") == "By class: 12 of 345, most mistakes first"


def test_the_bars_are_the_shares(records):
    found = numbers.mistakes(records).groups
    axes = figures.mistakes(records).axes[0]
    widths = [bar.get_width() for bar in axes.patches[:9]]
    order = [COMMON, ONLY_A, ONLY_B]
    wanted = [100 * found[k].cells[c] / NUM for k in (P_T, MIXED, RI_T) for c in order]
    np.testing.assert_allclose(widths, wanted)
    marks = [c.get_segments()[0][0][0] for c in axes.collections]
    chance = [100 * found[k].expected / NUM for k in (P_T, MIXED, RI_T)]
    np.testing.assert_allclose(marks, chance)
    key = [text.get_text() for text in axes.get_legend().get_texts()]
    assert key == ["both", "only first", "only second", "both, by chance"]


def test_the_margin_of_who_is_wrong_is_below_zero(records):
    for group in numbers.mistakes(records).groups.values():
        assert group.margin[0, ONLY_A] < 0 < group.margin[1, ONLY_A]
        assert group.margin[1, ONLY_B] < 0 < group.margin[0, ONLY_B]
        assert (group.margin[:, COMMON] < 0).all()


def pixels_of(svg):
    found = re.findall(r"base64,\s*([A-Za-z0-9+/=\s]+)\"", svg)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in found]


@pytest.mark.parametrize("pixels", [(12, 12, 1), (9, 16, 3)])
def test_the_page_has_the_images_pixel_by_pixel(pixels):
    record = mistakes(num=500, pixels=pixels, shown=5)
    for row, panel in enumerate(figure.gallery([record])):
        svg = as_svg(panel, "gallery")
        number = int((record.results.gallery_index[row] >= 0).sum())
        found = pixels_of(svg)
        assert len(found) == number > 0
        for image, wanted in zip(found, record.results.gallery_images[row], strict=False):
            np.testing.assert_array_equal(image[..., :3], np.broadcast_to(wanted, (*pixels[:2], 3)))
        assert svg.count("image-rendering:crisp-edges;image-rendering:pixelated") == number
        assert "Interpolation" not in svg


def test_the_images_can_be_read_without_being_seen():
    record = mistakes(num=500, shown=2)
    found = record.results._asdict()
    svg = as_svg(figure.gallery([record])[1], "gallery-x")
    total = found["gallery_total"][1]
    assert f'<title id="gallery-x-title">Only RI-T is wrong: 2 of {total}</title>' in svg
    index, label = found["gallery_index"][1, 0], found["gallery_label"][1, 0]
    (p_t, ri_t), sure = found["gallery_answer"][1, 0], found["gallery_confidence"][1, 0]
    alt = f"Image {index}: true {label}; P-T {p_t}, {100 * sure[0]:.0f}%; RI-T {ri_t}, "
    assert f'<desc id="gallery-x-alt">{alt}' in svg
    assert 'aria-describedby="gallery-x-alt"' in svg


def test_a_row_without_images_says_none():
    record = mistakes(ONE_EACH, num=40, shown=6)
    assert record.results.gallery_total.tolist()[2] == 0
    drawn = figures.gallery([record]).axes
    assert drawn[2].get_title(loc="left") == "Both are wrong"
    assert texts(drawn[2]) == ["none"]
    assert [len(axes.images) for axes in drawn] == record.results.gallery_total.tolist()
    empty = mistakes(ONE_EACH, num=40, shown=0)  # there are some, and none was kept
    drawn = figures.gallery([empty]).axes
    assert texts(drawn[0]) == ["no data"]
    assert drawn[0].get_title(loc="left").startswith("Only P-T is wrong: 0 of ")


def test_several_labels_an_image():
    record = mistakes(num_classes=5, num=300, is_multilabel=True)
    row = PARTS["mistakes"].table([record]).rows[0]
    assert row[-2:] == ("no data", "no data")
    assert "Of 1,500 labels of 300 test images two P-T get " in words.answer([record]).sentence
    results = record.results
    lines = texts(figures.gallery([record]).axes[0])[:4]
    said = ("off", "on")
    label, answer = results.gallery_label[0, 0], results.gallery_answer[0, 0]
    assert lines[:2] == [f"label {results.gallery_judgement[0, 0]}", f"true {said[label]}"]
    assert lines[2].startswith(f"P-T {said[answer[0]]}, ")
    assert lines[3].startswith(f"RI-T {said[answer[1]]}, ")
    assert answer[0] != label == answer[1]
    assert figures.mistakes([record]).axes[2].get_ylabel() == "label"


def test_one_image_may_stand_in_a_row_twice():
    record = mistakes(num=500, shown=3)
    images = np.repeat(record.results.gallery_images[:, :1], 3, axis=1)
    made = changed(record, gallery_images=images)
    svg = as_svg(figure.gallery([made])[0], "g")
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert svg.count("<image") == 3


def test_an_answer_that_was_none():
    record = mistakes(num=500, shown=1)
    nan = np.full((3, 1, 2), np.nan)
    made = changed(record, gallery_answer=np.full((3, 1, 2), -1), gallery_confidence=nan)
    assert texts(figures.gallery([made]).axes[0])[1:] == ["P-T none", "RI-T none"]


def test_the_cells_are_those_of_the_analysis():
    names = ("neither", "only_b", "only_a", "common")
    found = numbers
    order = [found.NEITHER, found.ONLY_SECOND, found.ONLY_FIRST, found.COMMON]
    assert [CELLS.index(name) for name in names] == order


def test_models_without_mistakes():
    record = mistakes(("P-T", "P-T"), num=50)
    cells = np.broadcast_to([50, 0, 0, 0], (2, 2, 4))
    by_class = np.broadcast_to([5, 0, 0, 0], (2, 2, 10, 4))
    nan, zeros = np.full((2, 2, 4), np.nan), np.zeros((2, 2))
    more = {"expected_common": zeros, "expected_common_by_class": np.zeros((2, 2, 10))}
    more |= {"kappa": zeros + 1, "kappa_low": zeros - 0.2, "kappa_high": zeros + 1}
    made = [changed(record, cells=cells, cells_by_class=by_class, margin=nan, **more)]
    answer = words.answer(made)
    assert "two P-T get 0 wrong together (by chance 0)" in answer.sentence
    assert answer.verdict == OPEN
    assert len(figures.mistakes(made).axes) == 2
