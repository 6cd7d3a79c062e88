"""`Member(isolated=True)`: its election runs in a process of its own, `child.py`, which `program.py` starts."""
