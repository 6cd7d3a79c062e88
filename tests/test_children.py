"""What waits for a child waits for its silence, not for its end."""

from __future__ import annotations

import selectors

from children import PATIENCE


def test_a_child_that_goes_on_printing_is_not_taken_for_stuck_however_long_it_takes(start_child, monkeypatch):
    """It has the whole of its time anew after each line."""
    patience = []

    class Selector(selectors.DefaultSelector):
        def select(self, timeout=None):
            patience.append(timeout)
            return super().select(timeout)

    monkeypatch.setattr(selectors, "DefaultSelector", Selector)
    child = start_child("import sys\nfor line in sys.stdin: print(line, end='')")
    child.tell("one")
    child.expect("one")
    child.tell("two")
    child.close_stdin()
    assert child.read_all() == ["two"]
    assert set(patience) == {PATIENCE}
