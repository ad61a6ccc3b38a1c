"""Puts about a hundred faults into tlx, one at a time, and tells which the tests do not see.

  python -m tests.mutation                         all, about half an hour on two cores
  python -m tests.mutation --only=data/            those of files whose path begins so
  python -m tests.mutation --results=FILE          goes on where a run with this file stopped

It works on a copy of the tree in a temporary folder. It fails if more than three mutations
survive, or one without a reason. The last line printed is JSON.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.mutation import campaign
from tests.mutation.tables import MUTATIONS

MOST_SURVIVORS = 3


def main() -> int:
    assert __doc__ is not None
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="tests.mutation", description=__doc__, formatter_class=form
    )
    parser.add_argument("--only", default="", help="how the mutated files' paths below tlx/ begin")
    parser.add_argument("--results", type=Path, help="JSON file in which results are kept")
    parser.add_argument(
        "--trusted", action="store_true", help="do not first run the tests without any mutation"
    )
    given = parser.parse_args()
    chosen = [mutation for mutation in MUTATIONS if mutation.file.startswith(given.only)]
    with tempfile.TemporaryDirectory() as folder:
        tree = campaign.copied(Path(folder))
        if not given.trusted:
            campaign.check_sound(tree, chosen)
        found = campaign.all_of(tree, chosen, given.results)
    survivors = [one for one in found if not one["killed_by"]]
    print(campaign.table(found))
    said = {
        "mutations": len(found),
        "killed": len(found) - len(survivors),
        "survived": [f"{one['file']}: {one['new']}" for one in survivors],
        "seconds": round(sum(one["seconds"] for one in found)),
    }
    print(json.dumps(said, ensure_ascii=False))
    good = len(survivors) <= MOST_SURVIVORS and all(one["reason"] for one in survivors)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
