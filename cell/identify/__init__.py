"""Identification of an arm's drives: how late and how truly they follow, from step and sweep responses."""
