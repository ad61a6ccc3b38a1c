"""A Slurm that only remembers, for tests of studies on it."""

import os

import pytest

from tests.helpers.fake_slurm import FakeSlurm
from tlx.studies import graph


@pytest.fixture
def fake(tmp_path, monkeypatch):
    made = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
    return made


@pytest.fixture
def done(monkeypatch):
    """The parts that are done, which a test changes."""
    found = set()
    monkeypatch.setattr(graph, "done", lambda tasks: set(found))
    return found


@pytest.fixture
def workdir(tmp_path):
    return tmp_path / "study"
