"""What the commands of `raftlite` are made of: their options and settings, what they write, how they are ended."""
