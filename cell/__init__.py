"""The cell controller and everything that faces people or the factory."""
