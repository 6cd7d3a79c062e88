"""raftlite, beside others that elect a leader, and beside a program that need not elect anybody."""
