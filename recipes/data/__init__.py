"""Data of the recipe room."""
