"""What a user can get wrong at the command line: one sentence each, and nothing half-written."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.train.tiny import make_spec
from tlx import cli, config
from tlx.cli import data as data_commands
from tlx.config import serial
from tlx.studies import pool, runner
from tlx.studies.spec import StudySpec
from tlx.train.spec import RunSpec

CONFIGS = sorted(str(path) for path in Path("configs").rglob("*.py"))
FORMS = {
    "configs/mini.py": ("depth", "pretrain", "finetune=WORKDIR", "scratch"),
    "configs/pacs.py": ("sketch", "pretrain", "finetune=WORKDIR", "scratch"),
    "configs/reuse.py": ("fashion",),
    "configs/paper/chexpert.py": ("from=WORKDIR",),
    "configs/paper/domainnet.py": ("real", "shuffle", "from=WORKDIR"),
}
FREE = {"configs/mobilenet.py", "configs/paper/imagenet.py"}
"""Whose argument is the name of a data set or a folder, which the data have to know."""


def told(capsys, *argv):
    """The one sentence of a command that cannot be done."""
    assert cli.main(argv) == 1
    out, err = capsys.readouterr()
    assert not out
    assert "Traceback" not in err
    return err


def train(capsys, tmp_path, name, *more):
    return told(capsys, "train", f"--config={name}", f"--workdir={tmp_path / 'run'}", *more)


def test_every_config_is_here():
    assert set(CONFIGS) == FREE | set(FORMS)


@pytest.mark.parametrize("file", FORMS)
def test_arguments_of_configs(file, capsys, tmp_path):
    first = FORMS[file][0]
    for form in FORMS[file]:
        name, has_value, _ = form.partition("=")
        if has_value:
            for arg in (name, f"{name}="):
                message = train(capsys, tmp_path, f"{file}:{arg}")
                assert f"{name} needs a value: {name}=WORKDIR" in message
            assert f"{name}=a and {name}=b" in train(capsys, tmp_path, f"{file}:{name}=a,{name}=b")
        else:
            assert f"{name} takes no value" in train(capsys, tmp_path, f"{file}:{name}=3")
            assert "exclude each other" in train(capsys, tmp_path, f"{file}:{name},{name}")
        message = train(capsys, tmp_path, f"{file}:{name}x")
        assert f"unknown argument '{name}x'; did you mean '{name}'?" in message
    assert first in message
    assert not (tmp_path / "run").exists()


def test_arguments_are_told_all_at_once():
    with pytest.raises(config.ConfigError) as error:
        config.arguments("a,b=1,c,dd", ("a", "b"), ("c=WHAT",))
    assert str(error.value) == (
        "'a,b=1,c,dd': b takes no value, got 'b=1'; c needs a value: c=WHAT; unknown argument "
        "'dd'. Known: a, b, c. Expected one of a, b and one of c=WHAT, or none"
    )
    assert config.arguments("c=x=y,b", ("a", "b"), ("c=WHAT",)) == ("b", "c=x=y")


def test_kinds_say_where_a_run_starts(capsys, tmp_path):
    message = train(capsys, tmp_path, "configs/mini.py:scratch", "--config.kind=P-T")
    assert "a run of kind P-T starts from pretrained weights, and init_from names none" in message
    message = train(
        capsys, tmp_path, "configs/mini.py:finetune=runs/P", "--config.kind=RI-T"
    )  # fmt: skip
    assert "a run of kind RI-T starts from random weights, and init_from names others" in message
    message = train(capsys, tmp_path, f"configs/mini.py:finetune={tmp_path / 'nowhere'}")
    assert "nowhere" in message
    assert not (tmp_path / "run").exists()


def test_what_a_study_starts_from_is_looked_for_first(capsys, tmp_path):
    start = f"--config.pretrain.init_from.workdir={tmp_path / 'nowhere'}"
    run = f"--workdir={tmp_path / 'run'}"
    message = told(capsys, "study", "--config=configs/mini.py", run, start)
    assert "init_from: expected the workdir of a run" in message
    assert not (tmp_path / "run").exists()


def test_a_study_is_no_run(capsys, tmp_path):
    assert "is the config of a study; use tlx study" in train(capsys, tmp_path, "configs/mini.py")
    message = told(capsys, "study", "--config=configs/mini.py:scratch", f"--workdir={tmp_path}/run")
    assert "is the config of one run; use tlx train" in message


BROKEN = {
    "raise SystemExit(5)\n": "line 1: SystemExit: 5",
    "def get_config(:\n": "line 1: SyntaxError",
    "import nothing_like_it\n": "line 1: ModuleNotFoundError: No module named 'nothing_like_it'",
    "def get_config():\n  return {}['a']\n": "line 2: KeyError: 'a'",
    "def get_config():\n  return 3\n": "to return an ml_collections.ConfigDict, got int",
    "get_config = 3\n": "expected get_config(arg='')",
}


@pytest.mark.parametrize("text", BROKEN)
def test_configs_that_cannot_be_run(text, capsys, tmp_path):
    file = tmp_path / "broken.py"
    file.write_text(text)
    message = train(capsys, tmp_path, str(file))
    assert str(file) in message
    assert BROKEN[text] in message


def test_a_config_without_an_argument(capsys, tmp_path):
    file = tmp_path / "plain.py"
    file.write_text("def get_config():\n  return 3\n")
    assert "takes 0 positional arguments but 1 was given" in train(capsys, tmp_path, f"{file}:x")


def test_files_that_are_no_configs(capsys, tmp_path):
    assert "no config file 'x/config.json'" in train(capsys, tmp_path, "x/config.json")
    (tmp_path / "notes.txt").write_text("rate 0.1")
    assert "expected a Python file (.py)" in train(capsys, tmp_path, f"{tmp_path}/notes.txt")
    (tmp_path / "cut.json").write_text("{")
    assert "expected JSON" in train(capsys, tmp_path, f"{tmp_path}/cut.json")
    (tmp_path / "list.json").write_text("[1]")
    assert "the fields of a config, got list" in train(capsys, tmp_path, f"{tmp_path}/list.json")
    (tmp_path / "run.json").write_text("{}")
    assert "expected no argument" in train(capsys, tmp_path, f"{tmp_path}/run.json:x")


def test_a_saved_config_is_a_config(tmp_path):
    spec = config.build(RunSpec, config.load("configs/mini.py:scratch"))
    saved = tmp_path / "config.json"
    saved.write_text(json.dumps(serial.to_dict(spec)))
    assert config.build(RunSpec, config.load(str(saved))) == spec
    changed = config.build(RunSpec, config.load(str(saved), ["optim.rate=0.5"]))
    assert changed.optim.rate == 0.5


def test_a_saved_study_is_a_config(tmp_path):
    from tlx import records

    spec = config.build(StudySpec, config.load("configs/mini.py"))
    saved = tmp_path / "study.json"
    saved.write_text(records.canonical_json(spec.saved()))
    assert config.build(StudySpec, config.load(str(saved))) == spec
    one = config.build(StudySpec, config.load(str(saved), ["questions=('plane',)"]))
    saved.write_text(records.canonical_json(one.saved()))
    assert "basin" not in saved.read_text()
    again = config.build(StudySpec, config.load(str(saved)))
    assert again.asked() == one.asked()
    assert again.saved() == one.saved()


def test_workdirs_and_files_that_cannot_be(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    message = told(
        capsys, "train", "--config=configs/mini.py:scratch", f"--workdir={tmp_path}/file/run"
    )
    assert "file/run: Not a directory; a part of the path is a file; name another" in message
    message = told(capsys, "data", "check", "digits", f"--out={tmp_path}/no/x.png")
    assert "no: no such folder; make the folder it is in, or name another" in message
    message = told(capsys, "export", f"--workdir={tmp_path}", f"--out={tmp_path}/no/x")
    assert "no such folder" in message
    assert "no config.json" in told(
        capsys, "export", f"--workdir={tmp_path}", f"--out={tmp_path}/x"
    ).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "No space left on device; free some space and give the command again"),
        (errno.EROFS, "Read-only file system; name a place that can be written to"),
        (errno.EACCES, "Permission denied; its permissions forbid it"),
    ],
)
def test_errors_of_the_system_have_a_remedy(code, remedy, capsys, monkeypatch):
    def broken(args, overrides):
        raise OSError(code, os.strerror(code), "runs/x")

    monkeypatch.setattr(data_commands, "_data_list", broken)
    assert f"tlx data: runs/x: {remedy}" in told(capsys, "data", "list")


def test_faults_of_tlx_keep_their_traceback(monkeypatch):
    def broken(args, overrides):
        raise KeyError("a fault")

    monkeypatch.setattr(data_commands, "_data_list", broken)
    with pytest.raises(KeyError):
        cli.main(["data", "list"])


def test_processes_that_cannot_be_or_die(capsys, tmp_path, monkeypatch):
    study = "study", "--config=configs/mini.py", f"--workdir={tmp_path / 'study'}"
    message = told(capsys, *study, "--workers=0")
    assert message == "tlx study: workers: expected at least 1 process, got 0\n"
    assert not (tmp_path / "study").exists()

    def run(*args, **options):
        raise pool.WorkerDiedError("expected basin to be done, got a process that died of it")

    monkeypatch.setattr(runner, "run", run)
    message = told(capsys, *study)
    assert message == "tlx study: expected basin to be done, got a process that died of it\n"


def test_an_interrupted_command_ends_with_130(capsys, monkeypatch):
    def broken(args, overrides):
        raise KeyboardInterrupt

    monkeypatch.setattr(data_commands, "_data_list", broken)
    assert cli.main(["data", "list"]) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


def test_a_command_that_is_asked_to_stop_ends_with_the_signals_status(capsys, monkeypatch):
    def asked(args, overrides):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(data_commands, "_data_list", asked)
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["data", "list"]) == 143
    assert "stopped; the same command goes on from here" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("text", ["{}", "{", "[]", '{"title": 3}'])
def test_a_damaged_study(text, capsys, tmp_path):
    (tmp_path / "study.json").write_text(text)
    message = told(capsys, "report", f"--workdir={tmp_path}")
    assert "study.json is not the config of a study (" in message
    assert "study.json and give tlx study the config again" in message


@pytest.mark.parametrize(
    ("file", "text", "remedy"),
    [
        ("config.json", "{}", "and give the command again that trains"),
        ("config.json", '{"title": "x"}', "and give the command again that trains"),
        ("study.json", '{"title": "x"}', "and give tlx study the config again"),
    ],
)
def test_a_config_that_lacks_fields_is_named(file, text, remedy, capsys, tmp_path):
    path = tmp_path / file
    path.write_text(text)
    message = told(capsys, "status", f"--workdir={tmp_path}")
    assert message.startswith(f"tlx status: {path}: expected the config of a ")
    assert "problem(s):\n" in message
    assert message.endswith(
        f"\nIf it is damaged or of another version of tlx, delete {path} {remedy}, "
        "which writes it anew.\n"
    )


@pytest.mark.parametrize(
    "trace", ["5", "5:", "1:0", "²:1", "1:²", "٣:1", "-1:2", f"{'9' * 5000}:1"]
)
def test_steps_of_a_trace_are_numbers(trace, capsys, tmp_path):
    words = ["train", "--config=configs/mini.py:scratch", f"--workdir={tmp_path / 'run'}"]
    with pytest.raises(SystemExit) as error:
        cli.main([*words, f"--trace={trace}"])
    assert error.value.code == 2
    assert f"expected STEP:STEPS, as 100:5, got {trace!r}" in capsys.readouterr().err


def test_a_run_that_is_done_is_not_traced(capsys, tmp_path):
    saved = tmp_path / "config.json"
    saved.write_text(json.dumps(serial.to_dict(make_spec(num_steps=4))))
    words = ["train", f"--config={saved}", f"--workdir={tmp_path / 'run'}"]
    assert cli.main([*words, "--trace=1:1"]) == 0
    assert f"the trace: {tmp_path}/run/trace\n" in capsys.readouterr().out
    assert cli.main([*words, "--trace=1:1"]) == 0
    said = capsys.readouterr().out
    assert "the run was done before, so nothing was traced; choose another --workdir" in said
    assert "the trace: " not in said


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_arrays_that_are_none(content, capsys, tmp_path):
    (tmp_path / "train.npz").write_bytes(content)
    message = told(capsys, "data", "check", "numpy", f"--folder={tmp_path}")
    assert "train.npz" in message


def test_labels_without_an_axis(capsys, tmp_path):
    np.savez(tmp_path / "train.npz", images=np.zeros((3, 4, 4), np.uint8), labels=np.array(3))
    message = told(capsys, "data", "check", "numpy", f"--folder={tmp_path}")
    assert "labels" in message


def test_help_has_the_exit_status(capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(["--help"])
    assert error.value.code == 0
    assert "exit status: 0 done; 1 could not be done" in capsys.readouterr().out
    with pytest.raises(SystemExit) as error:
        cli.main(["data", "list", "--nothing"])
    assert error.value.code == 2


def test_nobody_reads():
    """`tlx data list | true`: no traceback, also from a name that is not UTF-8."""
    command = [sys.executable, "-m", "tlx.cli", "data", "list"]
    read, write = os.pipe()
    os.close(read)
    found = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert found.returncode == 141
    assert found.stderr == b""
