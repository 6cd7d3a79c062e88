"""`python -m raftlite` is the raftlite command."""

import sys

from raftlite.cli import main

if __name__ == "__main__":
    sys.exit(main())
