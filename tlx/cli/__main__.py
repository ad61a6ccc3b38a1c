"""`python -m tlx.cli`, the same as `tlx`."""

import sys

from tlx.cli import run

if __name__ == "__main__":
    sys.exit(run())
