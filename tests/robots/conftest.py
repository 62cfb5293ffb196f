"""Property tests are repeatable and know no wall-clock deadline (the first call of a kernel compiles it)."""

from hypothesis import settings

settings.register_profile("robots", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("robots")
