"""What of a study or a run is done, running or failed, where this machine does it."""

import json

import pytest

from tests.studies.tiny import tiny_run, tiny_study
from tlx import cli
from tlx.checkpoints import owner
from tlx.studies import graph, marks, pool, runner, status
from tlx.studies import workdir as files
from tlx.studies.axes import Axes
from tlx.train import loop

pytest.importorskip("sklearn", reason="the tiny study trains on scikit-learn's digits")

STUDY = tiny_study(questions=("distances",), axes=Axes(), partial=())


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A study that ended at its second run, since the loss was not finite."""
    workdir = tmp_path_factory.mktemp("study")
    train = graph.train
    with pytest.MonkeyPatch.context() as patch:

        def diverges(spec, folder, **more):
            if spec.name == "P-T 1":
                raise loop.NonFiniteLossError("the loss is not finite\nand so on")
            return train(spec, folder, **more)

        patch.setattr(graph, "train", diverges)
        with pytest.raises(loop.NonFiniteLossError):
            runner.run(STUDY, workdir)
    return workdir


def states(workdir):
    found = {}
    for item in status.of(workdir).items:
        found.setdefault(item.state, []).append(item.name)
    return found


def test_a_failed_part_is_told_with_its_reason(failed, capsys):
    assert cli.main(["status", f"--workdir={failed}"]) == 1
    said = capsys.readouterr().out
    assert "1 of 21 parts are done" in said
    assert "failed:\n  train P-T 1: the loss is not finite  [process" in said
    assert "mend the cause, and give the command again" in said
    found = states(failed)
    assert found["done"] == ["train P"]
    assert found["failed"] == ["train P-T 1"]
    assert len(found["left"]) == 19


def test_while_a_process_is_at_it_the_rest_waits(failed):
    with owner.hold(failed):
        made = marks.Marks(failed / "parts")
        made.begun(2)
        found = status.of(failed)
        assert found.exit_status == 3
        assert [i.name for i in found.items if i.state == "running"] == ["train RI-T 1"]
        assert {i.state for i in found.items[3:]} == {"waiting"}
        assert found.text().endswith("it goes on")
    assert states(failed)["left"][0] == "train RI-T 1"  # its process is no more
    marks.forget_running(failed / "parts")
    assert list(marks.read(failed / "parts")) == [1]


def test_a_study_that_is_done_says_so(failed, capsys):
    runner.run(STUDY, failed)
    assert not (failed / "parts").exists()
    assert cli.main(["status", f"--workdir={failed}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["state"] for item in found["items"]] == ["done"] * 21
    (failed / files.PAGE_FILE).unlink()
    assert states(failed)["left"] == ["page"]


def test_of_a_run(tmp_path, capsys):
    workdir = tmp_path / "run"
    loop.train(tiny_run("RI-T"), workdir)
    assert cli.main(["status", f"--workdir={workdir}"]) == 0
    assert capsys.readouterr().out == "all is done\n"
    (workdir / "result.json").unlink()
    assert "stopped:\n  train RI-T, step 4 of 4\n\nnobody is at it" in status.of(workdir).text()
    with owner.hold(workdir):
        assert status.of(workdir).items[0].state == "running"
    assert cli.main(["status", f"--workdir={tmp_path}"]) == 1
    assert "expected the workdir of a study" in capsys.readouterr().err


def test_marks_come_and_go_and_are_not_written_too_often(tmp_path):
    time = iter([0.0, 1.0, 2.0, 7.0, 7.0]).__next__
    made = marks.Marks(tmp_path / "parts", now=time)
    assert marks.read(tmp_path / "parts") == {}
    made.begun(3)
    made.told(3, 0.25, "a quarter")
    made.told(3, 0.3, "more")  # too soon
    assert marks.read(tmp_path / "parts")[3].detail == ""
    made.told(3, 0.85, "most")
    mark = marks.read(tmp_path / "parts")[3]
    assert (mark.fraction, mark.detail, mark.error) == (0.85, "most", "")
    assert mark.rate == pytest.approx(0.1)
    assert mark.seconds_left == pytest.approx(1.5)
    made.done(3)
    assert not (tmp_path / "parts").exists()
    assert mark._replace(rate=0.0).seconds_left is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("one\ntwo"), "one"),
        (RuntimeError("RESOURCE_EXHAUSTED: 9 GB"), "out of memory: RESOURCE_EXHAUSTED: 9 GB"),
        (MemoryError(), "out of memory: of this machine"),
        (KeyError("x"), "KeyError: 'x'"),
        (pool.WorkerDiedError("expected P to be done"), "expected P to be done"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_errors_are_told_in_a_sentence(error, said):
    assert marks.sentence(error) == said


def test_a_full_disk_does_not_stop_what_is_marked(tmp_path):
    (tmp_path / "parts").write_text("a file, where a folder would be")
    made = marks.Marks(tmp_path / "parts")
    made.begun(1)
    made.done(1)
