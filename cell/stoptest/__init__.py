"""Measures how long the arm takes to stop: the twin's on simulated time, a real one's through the same contract."""
