"""A pytest plugin that isolates every `Member`: what tests/test_member.py says of members holds for such ones too."""

from __future__ import annotations

from typing import Any

from raftlite.member import Member

_begin = Member.__init__


def _begin_isolated(member: Member, *arguments: Any, **settings: Any) -> None:
    settings.setdefault("isolated", type(member) is Member)
    _begin(member, *arguments, **settings)


Member.__init__ = _begin_isolated  # type: ignore[method-assign]
