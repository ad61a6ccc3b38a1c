"""What a sweep chooses and says: pure functions of what was measured."""

from types import SimpleNamespace

import numpy as np

from tlx.studies import curves
from tlx.studies.questions import sweep


def test_the_rate_of_the_highest_mean_is_chosen():
    final = np.array([[0.5, 0.9], [0.8, 0.8]])
    nothing = np.full((2, 2), np.nan)
    assert curves.chosen_rate(final, nothing) == 1
    assert curves.chosen_rate(final, final[::-1]) == 0  # what is held out decides


def test_the_earliest_start_from_which_all_are_as_good():
    values = ["0", "1", "2", "4", "8"]
    assert sweep._earliest(values, np.array([0.1, -0.1, 0.2, -0.3, np.nan])) == 4
    assert sweep._earliest(values, np.array([-0.1, 0.0, -0.2, -0.3, np.nan])) == 0
    assert sweep._earliest(values, np.array([-0.1, 0.0, -0.2, 0.3, np.nan])) == -1


def test_recipes_come_by_kind_the_plain_rate_first():
    def run(kind, rate, is_further):
        optim = SimpleNamespace(rate=rate)
        spec = SimpleNamespace(optim=optim)
        return SimpleNamespace(kind=kind, is_further_rate=is_further, spec=spec)

    runs = [run("RI-T", 0.1, False), run("P-T", 0.3, True), run("P-T", 0.1, False)]
    found = curves.by_recipe([*runs, run("RI-T", 0.1, False)])
    assert list(found) == [("P-T", 0.1), ("P-T", 0.3), ("RI-T", 0.1)]
    assert list(map(len, found.values())) == [1, 1, 2]
