"""What a member counts, for whoever watches it: plain numbers that its election thread alone raises."""

from __future__ import annotations

from typing import Dict, Union

Number = Union[int, float]

METRICS: Dict[str, str] = {
    "current_term": "the latest term that this member has seen",
    "is_leader": "1 while this member leads and its lease holds, else 0",
    "has_leader": "1 while this member knows who leads, else 0",
    "lease_remaining_seconds": "for how long nobody else can lead, if nothing more is heard; 0 unless it leads",
    "members": "members of the cluster as this one knows them, itself and observers included",
    "unreachable_members": "members that this one cannot reach, or as the leader does not hear",
    "callbacks_due": "callbacks that run or wait, and bodies that hold leadership",
    "inbox_length": "messages that wait to be dealt with",
    "elections_started_total": "elections in which this member stood as a candidate",
    "elected_total": "grants of leadership that this member was given",
    "lost_total": "grants of leadership that have ended",
    "leader_changes_total": "how often this member learnt of a leader, itself included, that it did not follow before",
    "messages_received_total": "messages of other members that this one has dealt with",
    "messages_sent_total": "messages that were handed to a transport",
    "messages_dropped_total": "messages that a transport has dropped: too old, too many, or the peer unreachable",
    "steps_dropped_total": "steps that found the queue of whoever watches full",
    "saves_total": "how often votes and memberships were saved",
    "save_seconds_total": "how long that took altogether",
}
"""What `Member.metrics()` has, and what it means. Names in `_total` only grow while the member runs."""


class Counters:
    """The counters of one election thread. Others may read them at any time: each is replaced in one step."""

    def __init__(self) -> None:
        self.elections_started = 0
        self.elected = 0
        self.lost = 0
        self.leader_changes = 0
        self.messages_received = 0
        self.saves = 0
        self.save_seconds = 0.0

    def totals(self) -> Dict[str, Number]:
        """Each under the name that it has in `METRICS`."""
        return {f"{name}_total": value for name, value in vars(self).items()}
