"""Envelopes, ports and keys: how nodes talk, knowing nothing of robots or people."""
