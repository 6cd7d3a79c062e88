"""`raftlite` and `python -m raftlite`: the command, whose imports Ctrl-C may interrupt as quietly as the rest."""

import sys


def main() -> int:
    """Run the command and return its exit code."""
    try:
        from raftlite import cli

        return cli.main()
    except KeyboardInterrupt:
        return 128 + 2


if __name__ == "__main__":
    sys.exit(main())
