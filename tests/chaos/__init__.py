"""Real processes, and a network, disks and clocks that fail: `make chaos MINUTES=30`."""
