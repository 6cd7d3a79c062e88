"""The library's `ElectionThread`, as the members of a lab run it: with rules that can be switched."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Optional

from raftlite.lab.rules import LabElection, RuleBook
from raftlite.messages import Resign
from raftlite.thread import ElectionThread


class LabThread(ElectionThread):
    """An `ElectionThread` whose election obeys `book`; `on_end(failure)` is called by it when it has ended."""

    def __init__(
        self, book: RuleBook, on_end: Callable[[Optional[BaseException]], None], *args: Any, **settings: Any
    ) -> None:
        self._book, self._on_end = book, on_end
        self._make_election = partial(LabElection, book)
        super().__init__(*args, **settings)

    def _put(self, message: Any) -> None:
        """Without check-quorum, a leader whose lease has run out leads on."""
        if self._book.rules.check_quorum or not isinstance(message, Resign):
            super()._put(message)

    def _note_delay(self, late: float, or_else: str = "") -> None:
        """A frozen member is no news here."""

    def _end(self, failure: Optional[BaseException]) -> None:
        super()._end(failure)
        self._on_end(failure)
