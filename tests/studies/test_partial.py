import dataclasses

import pytest

from tests.studies.tiny import tiny_run, tiny_study
from tlx.studies import partial, plan
from tlx.studies.runs import PART
from tlx.train.spec import InitFrom

BODY = ("stem", "stage1_block1", "stage2_block1", "pooled")


@pytest.mark.parametrize(
    ("word", "modules"),
    [("first:0", ()), ("first:2", BODY[:2]), ("except:1", BODY[1:]), ("first:4:frozen", BODY)],
)
def test_words(word, modules):
    found = partial.parse(word, tiny_run("P-T"))
    assert found.modules == modules
    run = dataclasses.replace(tiny_run("P-T"), init_from=InitFrom(workdir="p"))
    applied = partial.apply(word, run)
    assert applied.init_from.modules == modules
    assert applied.optim.freeze == (modules if word.endswith("frozen") else ())
    assert applied.problems() == []


@pytest.mark.parametrize("word", ["first", "first:5", "last:1", "first:1:tuned", ""])
def test_other_words_are_problems(word):
    with pytest.raises(ValueError, match="expected 'first:k' or 'except:k' with k from 0 to 4"):
        partial.parse(word, tiny_run("P-T"))
    assert f"got {word!r}" in tiny_study(partial=(word,)).problems()[0]


def test_words_are_given_once():
    (problem,) = tiny_study(partial=("first:1", "first:1")).problems()
    assert problem.startswith("partial: expected each word once")


def test_the_plan_has_a_run_for_each_word(tmp_path):
    planned = plan.make(tiny_study(partial=("first:1", "except:2:frozen")), tmp_path)
    runs = planned.runs
    assert [run.name for run in runs[-2:]] == ["P-T first:1", "P-T except:2:frozen"]
    assert {run.kind for run in runs[-2:]} == {PART}
    assert runs[-1].spec.optim.freeze == BODY[2:]
    assert runs[-1].spec.init_from.workdir == str(runs[0].workdir)
    pairs = planned.target_pairs()
    assert not [run for pair in pairs for run in pair if run.axis == "part"]
    assert len({run.workdir for run in runs}) == len(runs)
