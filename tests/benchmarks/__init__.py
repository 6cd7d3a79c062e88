"""Measurements that anyone can repeat: `make bench`. None of them is a test, and no test runs them."""
