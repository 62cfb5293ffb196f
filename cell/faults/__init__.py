"""The fault matrix: faults injected into a moving twin, one at a time, and what became of the arm."""
