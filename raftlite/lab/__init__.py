"""The classroom: a real cluster to watch, to break, and to step back through."""
