"""Calibration of cameras: lens (intrinsics), place (extrinsics), and the empty cell (background)."""
