"""What must be true of the record of a run. Pure: takes what was seen, returns sentences about what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Dict, Iterable, List, Optional


@dataclass(frozen=True)
class Span:
    """`is_leader` was true on `node_id` from `first` to `last`, without a gap.

    `first` is the clock *after* the first look that found it true, `last` that *before* the last one: a grant never
    comes back to life, so it was true all the time between. After a single look, `last` is before `first`.
    """

    node_id: str
    token: int
    first: float
    last: float

    def __str__(self) -> str:
        return f"{self.node_id} with token {self.token} from {self.first:.6f} to {self.last:.6f}"


@dataclass(frozen=True)
class Heard:
    """What a process said, in this order: that it was told of "elected" or "lost", or that it has "stopped"."""

    process: str  # one life of a member
    node_id: str
    what: str
    token: int = 0  # none where it has stopped

    def __str__(self) -> str:
        return f"{self.what} {self.token}" if self.token else self.what


@dataclass(frozen=True)
class Heal:
    """A fault was over at `at`. `leader_after` seconds later a member led, or none did as long as was waited."""

    fault: str
    at: float
    leader_after: Optional[float]
    bound: float


def violations(spans: Iterable[Span], heard: Iterable[Heard], heals: Iterable[Heal] = ()) -> List[str]:
    """A sentence for each thing that must not be; an empty list if all is well."""
    spans, heard = list(spans), list(heard)
    return [
        *two_at_one_instant(spans),
        *tokens_that_fall(spans),
        *tokens_of_two(spans, heard),
        *broken_pairs(heard),
        *late_leaders(heals),
    ]


def two_at_one_instant(spans: Iterable[Span]) -> List[str]:
    """Members, or grants of one member, that were leader at the same time."""
    found = []
    longest: Optional[Span] = None
    for span in sorted((span for span in spans if span.first <= span.last), key=lambda span: span.first):
        if longest is not None and span.first <= longest.last:
            together = min(longest.last, span.last) - span.first
            found.append(f"two led at one instant, for {1000 * together:.3f} ms: {longest}, {span}")
        if longest is None or span.last > longest.last:
            longest = span
    return found


def tokens_that_fall(spans: Iterable[Span]) -> List[str]:
    """Grants with a token that is no higher than one of before.

    A look has a beginning and an end, and the process may have been suspended between them: a grant is known to have
    been valid at some moment up to `first`, and at one from `last` on.
    """
    by_end = sorted(spans, key=lambda span: span.last)
    found = []
    highest: Optional[Span] = None
    begun = iter(sorted(by_end, key=lambda span: span.first))
    upcoming = next(begun, None)
    for span in by_end:
        while upcoming is not None and upcoming.first <= span.last:
            if highest is None or upcoming.token > highest.token:
                highest = upcoming
            upcoming = next(begun, None)
        if highest is not None and highest is not span and highest.token >= span.token:
            found.append(f"a token did not grow: {highest}, and then {span}")
    return found


def tokens_of_two(spans: Iterable[Span], heard: Iterable[Heard]) -> List[str]:
    """Tokens that more than one member had: two leaders in one term, at whatever time."""
    owners: Dict[int, str] = {}
    found = {}
    for token, node_id in [(span.token, span.node_id) for span in spans] + [(h.token, h.node_id) for h in heard]:
        if token and owners.setdefault(token, node_id) != node_id:
            found[token] = f"both {owners[token]} and {node_id} had token {token}"
    return list(found.values())


def broken_pairs(heard: Iterable[Heard]) -> List[str]:
    """Processes that were not told of elected and lost in turn, with tokens that grow, and of lost before they stopped.

    A life that ends otherwise, by `kill -9` say, may end while it leads.
    """
    found = []
    for process, its in groupby(sorted(heard, key=lambda h: h.process), key=lambda h: h.process):
        former: Optional[Heard] = None
        for told in its:
            if not _may_follow(former, told):
                found.append(f"{process} said {told} after {former or 'nothing'}")
            former = told
    return found


def _may_follow(former: Optional[Heard], told: Heard) -> bool:
    if told.what == "lost":
        return former is not None and former.what == "elected" and former.token == told.token
    if told.what == "stopped":
        return former is None or former.what == "lost"
    return former is None or (former.what == "lost" and former.token < told.token)


def late_leaders(heals: Iterable[Heal]) -> List[str]:
    """Faults after whose end nobody led within the bound."""
    return [
        f"no leader within {heal.bound:.1f} s after {heal.fault} was over"
        + ("" if heal.leader_after is None else f", but after {heal.leader_after:.1f} s")
        for heal in heals
        if heal.leader_after is None or heal.leader_after > heal.bound
    ]
