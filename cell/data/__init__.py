"""Figures of the standards, with their sources."""
