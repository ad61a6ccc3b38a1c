"""The synthetic study's records, in memory and on disk, and its page, drawn once."""

import pytest

from tests.report.synthetic import synthetic_records
from tlx.records import save
from tlx.report import page


@pytest.fixture(scope="session")
def records():
    return synthetic_records()


@pytest.fixture(scope="session")
def root(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "records"
    for record in records:
        save(folder, record)
    return folder


@pytest.fixture(scope="session")
def written(root, tmp_path_factory):
    return page.write(root, tmp_path_factory.mktemp("page") / "out" / "page.html")


@pytest.fixture(scope="session")
def text(written):
    """The page's HTML."""
    return written.read_text(encoding="utf-8")
