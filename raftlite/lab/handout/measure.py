"""Part C: 200 elections for each spread of the timeouts. Choose the spreads, then run: python measure.py SEED

It takes about a minute, and writes elections.csv and elections.svg beside itself. SEED: any number of your own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from raftlite.lab.measure import measure, medians, to_csv, to_svg, to_text

# Election timeouts are drawn from 3 s to 3 * (1 + spread) s. Choose at least four spreads from 0 to 10, 0 among them.
SPREADS = [0.0]


def main(seed: int) -> None:
    rows = measure(SPREADS, elections=200, seed=seed)
    here = Path(__file__).parent
    (here / "elections.csv").write_text(to_csv(rows), encoding="utf-8")
    (here / "elections.svg").write_text(to_svg(rows), encoding="utf-8")
    print(to_text(rows))
    for spread, half in medians(rows).items():
        print(f"spread {spread:g}: half of the elections took at most {half:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
