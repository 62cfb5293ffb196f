"""Motions: spline, limits, braking authority."""
