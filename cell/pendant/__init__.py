"""The teach pendant's server: its API is described in docs/pendant/api.md. Nothing here can permit motion."""
