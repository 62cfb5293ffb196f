"""Recipes: what to make, checked before it runs."""
