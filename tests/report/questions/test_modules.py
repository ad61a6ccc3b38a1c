"""The section about modules: rewound, in noise, moved; and what is missing."""

import numpy as np
import pytest

from tests.report.made import changed, nan, record_of, without
from tests.report.synthetic_modules import (
    COUNT,
    LOST,
    NAMES,
    TRAINED,
    criticality,
    modules,
    movement,
    movement_alike,
    rewinding,
)
from tlx.report import figures, summary
from tlx.report.draw import panels
from tlx.report.question import NOTHING
from tlx.report.questions import PARTS, QUESTIONS
from tlx.report.questions.modules import figure, numbers, words
from tlx.report.questions.modules.numbers import drop, rounded
from tlx.report.section import make, render
from tlx.report.words.kinds import colour
from tlx.report.words.numbers import UNKNOWN
from tlx.report.words.verdicts import AGREES, DIFFERS, NO_INTERVAL, OPEN, P_T

SHORT = ("stem", "1.1", "2.1", "3.1", "scale", "head")
FIGURES = ("rewinding", "criticality", "movement")


def both(make, **options):
    return [make(kind, **options) for kind in ("P-T", "RI-T")]


def test_the_answer_of_the_fixture():
    answer = words.answer(modules())
    assert answer.sentence == (
        "Single modules of P-T carry less than those of RI-T: rewound to step 0, one costs 19.8 "
        "± 1.1 points of test accuracy on average, against 56 ± 2. P-T loses measurably more "
        "than a point with head (86.0 ± 1.4 points) and block 3.1 (30.0 ± 1.7); RI-T loses "
        "measurably more than a point with block 3.1 (80.0 ± 1.8 points), head (75.0 ± 1.9), stem "
        "(70 ± 2) and three others. Whether P-T can do without the training of stem, block 1.1, "
        "block 2.1 and one other is too close to call. In sum over the modules the criticality is "
        "20,000 for RI-T and 5,200 for P-T straight back, 20,000 for RI-T and 5,200 for P-T "
        "through the checkpoints. The PAC-Bayes bound on the expected error is 0.53 for "
        "P-T and says nothing about RI-T. P-T moved 4.52 in l2 (cosine between two runs 0.90); "
        "RI-T moved 9.04 in l2 (cosine between two runs 0.06)."
    )
    assert answer.short == (
        "Single modules of P-T carry less than those of RI-T: rewound to step 0, one costs 19.8 "
        "± 1.1 points of test accuracy on average, against 56 ± 2."
    )
    assert [c.claim for c in answer.checks] == [
        "a module rewound costs P-T less than RI-T, on average",
        "the last module (head) costs P-T most",
        "the first module costs RI-T more than P-T",
        "the first module is less critical in P-T than in RI-T",
    ]


def test_the_table_names_what_was_measured():
    table = PARTS["criticality"].table(modules())
    assert table.columns == (
        "module", "points lost, P-T", "points lost, RI-T", "μ, P-T", "μ, RI-T",
        "moved, P-T", "moved, RI-T", "cosine (z), two P-T", "two RI-T",
    )  # fmt: skip
    assert table.rows[0] == (
        "stem", "0.0 ± 0.9", "70 ± 2", "0", "900", "1.20", "2.40", "0.90 (9.0)", "0.06 (0.60)‡",
    )  # fmt: skip
    assert table.rows[4][-2:] == ("one weight", "one weight")
    assert table.rows[-1] == (
        "all", "", "", "5,200", "20,000", "4.52", "9.04", "0.90 (108)", "0.06 (7.2)",
    )  # fmt: skip
    row = next(r for r in summary.headline(modules()).rows if r[0] == "Criticality, sum")
    assert row[1:] == ("5,200", "20,000", "")


def test_the_captions_of_the_fixture():
    made = modules()
    rewound, critical, moved = (PARTS[name].caption(made) for name in FIGURES)
    assert "rewound to its weights at step 0, the others as trained" in rewound
    assert "One P-T run and one RI-T run, n = 1,000 test images;" in rewound
    assert "named" not in rewound
    assert "(steps 0, 8, 32, 100; 0, 8, 99, 100)" in critical
    assert "at most the trained one and 3 points; without" in critical
    assert critical.endswith("n = 400 images, two draws of the noise.")
    assert moved.endswith("(1 P-T / P-T, 1 RI-T / RI-T). Left out, of one weight only: scale.")


def most_variance(trained, rewound, n):
    """The most that the variance of the difference can be, over all ways the two can agree."""
    right = round(trained * n), round(rewound * n)
    variances = []
    for common in range(n + 1):
        only = [count - common for count in right]
        if min(only) >= 0 and common + sum(only) <= n:
            d = np.repeat([1.0, -1.0, 0.0], [*only, n - sum(only)])
            variances.append(d.var())
    return max(variances)


@pytest.mark.parametrize("trained", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("rewound", [0.05, 0.5, 0.85, 1.0])
def test_the_error_of_a_drop_is_the_largest_that_the_accuracies_allow(trained, rewound):
    n = 40
    found = drop(trained, rewound, n)
    assert found.value == pytest.approx(trained - rewound)
    least = 1 / n**2
    expected = max(most_variance(trained, rewound, n) / n, least)
    assert found.error == pytest.approx(np.sqrt(expected))


def test_a_drop_between_perfect_models_is_known_to_one_image():
    assert drop(1.0, 1.0, 50).error == pytest.approx(1 / 50)
    assert np.isnan(drop(1.0, 1.0, 0).error)
    assert np.isnan(drop(0.9, np.nan, 50).value)


def test_two_runs_are_averaged_and_the_first_is_drawn():
    far = changed(rewinding("P-T", 2), accuracy_drop=np.full((6, 2), 0.1), step=[0, 100])
    (found,) = numbers.rewound([far, rewinding("P-T")]).values()
    assert found.num_runs == 2
    assert [e.value for e in found.lost.values()] == pytest.approx(
        [(v + 0.1) / 2 for v in LOST["P-T"]]
    )
    assert found.step.tolist() == [0, 8, 32, 100]
    assert found.lost["stem"].error == pytest.approx(
        np.mean([drop(TRAINED["P-T"], TRAINED["P-T"] - d, COUNT).error for d in (0.0, 0.1)])
    )
    made = [criticality("P-T"), changed(criticality("P-T", replicate=2), criticality=np.ones(6))]
    (critical,) = numbers.critical(made).values()
    assert critical.total == pytest.approx((5200 + 6) / 2)
    assert "Two P-T runs, means, the first of each drawn;" in PARTS["criticality"].caption(made)


def test_shuffled_runs_and_other_kinds_are_left_out():
    other = changed(rewinding("P-T"), inputs={"shuffle": "block:8"})
    part = changed(rewinding("P-T"), inputs={"kind": "P-T part"})
    assert numbers.rewound([other, part]) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (31.29, "31"), (187.2, "190"), (91_848.6, "92,000"), (996_000, "1.0e6"),
        (1.234e9, "1.2e9"), (np.inf, "∞"), (np.nan, "no data"), (0.0473, "0.047"),
    ],
)  # fmt: skip
def test_a_criticality_has_two_digits(value, text):
    assert rounded(value) == text


def infinite(kind):
    made = criticality(kind)
    there = {"criticality": np.inf, "alpha": np.nan, "sigma": np.nan}
    gone = {n: np.where(np.arange(6) == 3, v, made.results._asdict()[n]) for n, v in there.items()}
    return changed(made, **gone, bound=np.nan)


def test_an_infinite_criticality_is_said_and_drawn():
    made = [criticality("P-T"), infinite("RI-T")]
    answer = words.answer(made)
    assert answer.sentence == (
        "In sum over the modules the criticality is ∞ for RI-T and 5,200 for P-T straight back. "
        "The PAC-Bayes bound on the expected error is 0.53 for P-T and says nothing about RI-T."
    )
    assert answer.short.endswith("straight back.")
    table = PARTS["criticality"].table(made)
    assert (table.rows[3][4], table.rows[-1][4]) == ("∞", "∞")
    (_, axes) = figures.criticality(made).axes
    titles = [own.get_title(loc="left") for own in axes.child_axes[:6]]
    values = ("900", "1,600", "2,500", "∞", "4,900", "6,400")
    assert titles == [f"{n}: μ {v}" for n, v in zip(SHORT, values, strict=True)]
    assert [len(own.lines) for own in axes.child_axes[:6]] == [1, 1, 1, 0, 1, 1]


def test_equal_criticality_and_a_bound_that_says_nothing():
    one = criticality("P-T")
    other = changed(one, inputs={"kind": "RI-T"})
    silent = [changed(r, bound=0.9999) for r in (one, other)]
    answer = words.answer(silent)
    assert answer.sentence == (
        "In sum over the modules the criticality is 5,200 for RI-T and 5,200 for P-T straight "
        "back. "
        "The PAC-Bayes bound on the expected error says nothing about P-T and RI-T."
    )
    assert [c.verdict for c in answer.checks] == [NO_INTERVAL]


def test_against_the_paper_where_a_random_start_needs_less():
    lost = {"P-T": 0.5, "RI-T": 0.1}
    made = [
        changed(r, accuracy_drop=np.full((6, 4), lost[r.inputs["kind"]])) for r in both(rewinding)
    ]
    answer = words.answer(made)
    assert answer.sentence.startswith("Unlike in the paper, single modules of P-T carry no less")
    assert "There is no module whose training P-T can do without." in answer.sentence
    assert [c.verdict for c in answer.checks] == [DIFFERS, OPEN, DIFFERS]


@pytest.mark.parametrize(("stage3", "verdict"), [(0.3, AGREES), (0.86, OPEN), (0.95, DIFFERS)])
def test_the_last_module_costs_most_if_more_than_each_other(stage3, verdict):
    made = rewinding("P-T")
    lost = np.asarray(made.results.accuracy_drop).copy()
    lost[3] = stage3
    found = words.answer([changed(made, accuracy_drop=lost), rewinding("RI-T")])
    assert found.checks[1] == ("the last module (head) costs P-T most", verdict)


def test_nothing_lost():
    made = [changed(r, accuracy_drop=np.zeros((6, 4))) for r in both(rewinding)]
    sentence = words.answer(made).sentence
    assert sentence.startswith("Single modules of P-T carry not measurably less than those of RI-T")
    assert "P-T loses measurably more than a point with no module; RI-T loses meas" in sentence
    assert sentence.endswith("block 2.1 and three others is too close to call.")
    ends = {
        "accuracy_drop_low": np.full((6, 4), -0.004),
        "accuracy_drop_high": np.full((6, 4), 0.004),
    }
    sentence = words.answer([changed(r, **ends) for r in made]).sentence
    assert "P-T loses no more than a point with any module; RI-T loses no more" in sentence
    assert sentence.endswith("P-T can do without the training of any one module.")


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("kind", ["P-T", "RI-T"])
def test_a_part_of_one_kind_is_drawn_without_an_answer(name, kind):
    made = [r for r in modules() if r.question.startswith(name)]
    own = [r for r in made if kind in (r.inputs.get("kind"), r.inputs.get("kind_a"))]
    assert words.answer(own) == NOTHING
    assert words.answer(made).sentence
    assert PARTS[name].panels(own)
    assert PARTS[name].caption(own)
    assert "no data" in PARTS["criticality"].table(own).text()


def test_undefined_numbers_decide_nothing():
    fields = {
        "rewinding": ("accuracy_drop", "loss"),
        "criticality": ("error", "criticality", "alpha", "sigma", "bound", "distances"),
        "movement": ("displacement", "path", "total_displacement"),
        "movement_alignment": ("cosine", "z", "chance", "total_cosine", "total_z"),
    }
    made = [nan(r, *fields[r.question]) for r in modules()]
    sentence = words.answer(made).sentence
    assert sentence == "The PAC-Bayes bound on the expected error says nothing about P-T and RI-T."
    assert set(PARTS["criticality"].table(made).rows[0][1:]) == {"no data"}
    for name in FIGURES:
        for panel in PARTS[name].panels(made):
            panels.figure([panel])


def test_records_with_only_what_is_needed():
    needed = {
        "rewinding": {"modules", "step", "accuracy_drop"},
        "criticality": {"modules", "alphas", "sigmas", "distances", "error", "criticality"},
        "movement": {"modules", "displacement", "path"},
        "movement_alignment": {"modules", "cosine", "z"},
    }
    made = [without(r, lambda n, own=needed[r.question]: n not in own) for r in modules()]
    made = [r._replace(key={**r.key, "options": {}}) for r in made]
    sentence = words.answer(made).sentence
    assert sentence.startswith("Single modules of P-T carry not measurably less")
    assert PARTS["criticality"].table(made).rows[0][1] == "0"
    panels = [len(PARTS[name].panels(made)) for name in FIGURES]
    assert panels == [3, 4, 2]
    assert "and a tolerance; without" in PARTS["criticality"].caption(made)


def test_the_bars_show_the_numbers_and_the_kinds():
    left, right, *_ = figures.rewinding(modules()).axes
    assert left.get_ylabel() == "points"
    assert right.get_ylabel() == "nats"
    heights = [bar.get_height() for bar in left.patches]
    np.testing.assert_allclose(heights, 100 * np.concatenate([LOST["P-T"], LOST["RI-T"]]))
    np.testing.assert_allclose([b.get_height() for b in right.patches], np.array(heights) * 0.03)
    assert [t.get_text() for t in left.texts] == ["P-T", "RI-T"]
    assert [t.get_color() for t in left.texts] == [colour("P-T"), colour("RI-T")]


def test_lines_go_back_from_the_last_checkpoint_to_the_first():
    axes = figures.rewinding(modules()).axes[3]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "8", "99", "100"]
    assert axes.get_xticks().tolist() == [3, 2, 1, 0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0, 70 / 3, 140 / 3, 70])


def test_maps_show_the_error_outline_it_and_mark_the_least():
    made = criticality("RI-T")
    (axes,) = figures.criticality([made]).axes
    stem = axes.child_axes[0]
    drawn = stem.collections[0].get_array()
    np.testing.assert_allclose(np.ravel(drawn), made.results.error[0].T.ravel())
    place = np.ravel(stem.lines[0].get_xydata()) - 0.5
    alphas, sigmas = made.results.alphas, made.results.sigmas
    best = alphas[int(place[0])], sigmas[int(place[1])]
    assert best == (made.results.alpha[0], made.results.sigma[0])
    inside = made.results.error[0].T <= 0.03
    borders = np.sum(inside[1:] != inside[:-1]) + np.sum(inside[:, 1:] != inside[:, :-1])
    assert len(stem.collections[1].get_segments()) == borders > 0


def test_of_many_modules_the_first_and_the_most_critical_are_drawn():
    names = tuple(f"stage{i}_block{j}" for i in range(1, 5) for j in range(1, 6))
    made = [criticality("P-T", names=names), criticality("RI-T", names=names)]
    found = {r.inputs["kind"]: numbers.critical([r])[r.inputs["kind"]] for r in made}
    chosen = figure.drawn(found)
    assert len(chosen) == figure.MOST
    assert chosen == sorted(chosen)
    assert names[0] in chosen
    for own in found.values():
        assert max(own.value, key=own.value.get) in chosen
    assert "Of 20 modules the first and the 8 with the highest values are drawn." in PARTS[
        "criticality"
    ].caption(made)
    assert all(len(axes.child_axes) == 10 for axes in figures.criticality(made).axes)


def test_a_way_is_drawn_behind_the_distance():
    left, right = figures.movement(modules()).axes
    heights = np.array([bar.get_height() for bar in left.patches]).reshape(2, 2, 6)
    np.testing.assert_allclose(heights[1], 0.8 * heights[0])
    np.testing.assert_array_equal(np.isnan(right.lines[0].get_ydata()), np.array(NAMES) == "scale")


def test_several_pairs_have_the_mean_cosine_and_the_least_z():
    found = numbers.alike([movement_alike("P-T", 0.9), movement_alike("P-T", 0.7)])[P_T]
    assert found.num_pairs == 2
    np.testing.assert_allclose(found.cosine, [0.8, 0.8, 0.8, 0.8, 1.0, 0.8])
    np.testing.assert_allclose(found.z[:2], [7.0, 14.0])
    assert found.total_z == pytest.approx(84)


def test_the_section_has_the_paper_once_after_what_the_paper_has():
    text = render(make(QUESTIONS["modules"], modules()), 5)
    order = ['id="figure-5"', 'id="figure-6"', "Measured here", "In the paper", "How the modules",
             'id="figure-7"', '<ul class="checks">', "How it was computed"]  # fmt: skip
    at = [text.index(part) for part in order]
    assert at == sorted(at)
    assert text.count("In the paper") == text.count("not in the paper") == 1
    empty = render(make(QUESTIONS["modules"], []), 5)
    assert "No data: this has not been measured yet." in empty
    assert "<figure" not in empty


def test_a_record_without_what_is_needed_is_left_out():
    made = record_of("movement", inputs={"run": "r", "kind": "P-T"}, results={"modules": ["stem"]})
    assert words.answer([made]) == NOTHING
    assert figure.movement([made]) == []


def test_modules_that_only_one_run_has():
    short = {"modules": NAMES[:2], "displacement": np.ones((4, 2)), "path": np.ones((4, 2))}
    made = [movement("P-T"), changed(movement("RI-T"), **short)]
    rows = PARTS["criticality"].table(made).rows
    assert rows[1][6] == "1.00"
    assert rows[2][6] == ""
    assert figures.movement(made).axes
    verdicts = [c.verdict for c in words.answer(modules()).checks]
    assert verdicts == [AGREES, AGREES, AGREES, NO_INTERVAL]
    assert UNKNOWN not in numbers.rewound(modules())["P-T"].lost.values()
