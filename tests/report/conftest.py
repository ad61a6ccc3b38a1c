"""The synthetic study's records, in memory and on disk."""

import pytest

from tests.report.synthetic import synthetic_records
from tlx.records import save


@pytest.fixture(scope="session")
def records():
    return synthetic_records()


@pytest.fixture(scope="session")
def root(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "records"
    for record in records:
        save(folder, record)
    return folder
