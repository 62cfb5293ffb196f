"""The digital twin: physics, people, cameras and an independent referee."""
