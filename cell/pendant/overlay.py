"""Camera pictures as people see them: colour or depth, with what perception made of them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from perception.contract import CameraInfo, Frame, Observation

MOST_DRAWN = 1500
POINT, PERSON = (60, 60, 235), (40, 190, 250)
QUALITY = 80


def camera_picture(info: CameraInfo, frame: Frame, observation: Observation | None, depth: bool) -> bytes:
    """Return a JPEG: colour where the camera has any and `depth` is not asked for, else depth as colours."""
    if frame.colour is not None and not depth:
        image = np.ascontiguousarray(frame.colour[:, :, ::-1])
    else:
        image = depth_colours(frame.depth, info.depth_max)
    if observation is not None:
        draw_people(image, info, observation)
    ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not ok:
        raise ValueError("the picture cannot be encoded")
    return bytes(data)


def depth_colours(depth: NDArray[np.uint16], farthest: float) -> NDArray[np.uint8]:
    """Near is warm, far is cold, unknown is black. `depth` in mm, `farthest` in m."""
    share = np.clip(depth.astype(np.float32) / max(1.0, 1000.0 * min(farthest, 5.0)), 0.0, 1.0)
    image = cv2.applyColorMap((255 * (1.0 - share)).astype(np.uint8), cv2.COLORMAP_TURBO)
    image[depth == 0] = 0
    return np.asarray(image, dtype=np.uint8)


def project(info: CameraInfo, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels (n, 2) of points (n, 3) in the base frame, m; NaN behind the camera."""
    T = np.array(info.T_base_camera, dtype=np.float64).reshape(4, 4)
    local = (points - T[:3, 3]) @ T[:3, :3]
    z = np.where(local[:, 2] > 0.05, local[:, 2], np.nan)
    k = info.intrinsics
    return np.stack([k.fx * local[:, 0] / z + k.cx, k.fy * local[:, 1] / z + k.cy], axis=1)


def draw_people(image: NDArray[np.uint8], info: CameraInfo, observation: Observation) -> None:
    """Draw seen points and tracked people."""
    balls = np.frombuffer(observation.balls, dtype="<f4").reshape(-1, 4)[: observation.seen].astype(np.float64)
    if len(balls):
        for u, v in project(info, balls[:: -(-len(balls) // MOST_DRAWN), :3]):
            if np.isfinite(u) and 0 <= u < image.shape[1] and 0 <= v < image.shape[0]:
                image[int(v), int(u)] = POINT
    for track in observation.tracks:
        (u, v) = project(info, np.array([track.position], dtype=np.float64))[0]
        if np.isfinite(u) and abs(u) < 1e5 and abs(v) < 1e5:
            centre = (int(u), int(v))
            cv2.circle(image, centre, 12, PERSON, 2, cv2.LINE_AA)
            cv2.putText(image, str(track.id), centre, cv2.FONT_HERSHEY_SIMPLEX, 0.5, PERSON, 1, cv2.LINE_AA)
