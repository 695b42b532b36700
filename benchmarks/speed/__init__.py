"""Accord beside its peers and beside the machine's own limit, in one run: time, memory, and the same losses first."""
