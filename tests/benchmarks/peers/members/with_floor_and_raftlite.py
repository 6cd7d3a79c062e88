"""The floor with the memory of raftlite, which the system frees before it ends a dead process's connections."""

import with_floor

import raftlite.member  # noqa: F401  # for its memory alone

with_floor.Floor().run()
