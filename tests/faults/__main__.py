"""Kills runs and studies at random moments, begins them again, and compares them to the bit.

  python -m tests.faults --kills=1000          about an hour on two cores
  python -m tests.faults --kills=50 --kind=study
  python -m tests.faults --kills=1000 --folder=DIR
      where it was stopped it goes on with the same folder; stories that failed are kept there

A story is one workdir: begun, struck at a random moment (a change of a file, a time), begun again
with the same command until it is done, and compared with what nothing has stopped: weights,
metrics, results, records, page; nothing may be left over, and nothing said that is no sentence.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.faults import campaign, changes, subjects


def main() -> int:
    """Runs a campaign; 1 if a story has failed."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        "tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=1000, help="how many (1000); those by signals "
                        "that ask to stop come on top")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (0)")
    parser.add_argument(
        "--kind",
        action="append",
        choices=tuple(campaign.SHARES),
        metavar="KIND",
        help="run, study (with two worker processes) or processes (a run of two), or one of these "
        "with -term, asked to stop by SIGTERM and SIGINT; may be given several times (all)",
    )
    parser.add_argument("--jobs", type=int, default=2, help="stories at a time (2)")
    parser.add_argument("--folder", type=Path, help="of the campaign (one in the temporary folder)")
    given = parser.parse_args()
    if not changes.IS_HERE:
        parser.error("changes of files are seen on Linux alone")
    folder = given.folder or Path(tempfile.gettempdir()) / f"tlx-faults-{given.seed}"
    os.environ |= subjects.environment(folder.absolute())
    subjects.load()
    wanted = campaign.quotas(given.kills, given.kind or tuple(campaign.SHARES))
    whole = campaign.Campaign(
        folder.absolute(), given.seed, wanted, lambda line: print(line, flush=True)
    )
    try:
        told = whole.run(given.jobs)
    except KeyboardInterrupt:
        told = whole.log
        print("stopped; the same command goes on from here")
    print(campaign.table(told))
    failed = [entry for entry in told if entry["problems"]]
    for entry in failed:
        print(f"{folder / 'failed' / entry['story']}: {'; '.join(entry['problems'][:3])}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
