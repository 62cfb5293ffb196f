"""Has a camera been moved? The fixed scene, ray-cast from the cell file, against what the camera measures of it.

A camera that was moved by a small twist x = (translation t, rotation w; in its own frame) measures on a plane with
unit normal n, along the ray r = (u, v, 1), where the depth was z,

    z' - z = -(n . t) / (n . r) - z (r x n) . w / (n . r)        (first order; n . P = const on the plane, P = z r)

A seventh unknown takes up a relative error of scale (temperature, ageing: 0.2 % of it pretends a movement of 10 mm).
The twist is fitted to thousands of pixels of flat static surfaces by weighted least squares. Whatever stands in front
of them (people, parts, the arm) deviates by more than noise and movement can and gets no weight (Tukey's biweight).

A fit says how far what is seen lies from where it is taken to be: the root mean square of |t + w x P| over the static
points. Directions that the visible static surfaces do not determine are drawn to 0 by a weak prior, and
`unseen` names them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from perception import kernels
from perception.background import Background
from perception.contract import MOVED, CameraInfo

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

FRAMES = 15
"""Frames in a window; one fit at its end."""
WINDOWS = 3
"""So many fits in a row must agree, that it has moved or that it has not."""
WITHIN = (WINDOWS + 2) * FRAMES
"""Frames after which a movement is noticed at the latest: one window may hold both places, one the fit takes."""
BEYOND = 0.010
"""Displacement of the scene from which on a camera counts as moved, m: what Z_d has left for calibration."""
BACK = 0.006
"""... and below which it counts as back in its place, m."""
SHARE = 2000
"""Pixels looked at in each frame, in turns."""
DEEPER = 0.15
"""Share of the pixels looked at that may lie behind the static surface: nobody can stand behind a table's top."""
SLACK = 0.04
"""A deviation of 4 standard deviations of noise and this, m, gets no weight."""
LEAST = 0.2
"""A fit rests on at least this share of the pixels looked at; else people hide the scene and nothing is decided."""
PRIOR = 0.05
"""Standard deviation of the displacement before anything was seen, m."""
SCALE_PRIOR = 0.01
HIDDEN = 300
"""After so many frames without a fit the camera cannot be told from one that was turned away."""
TRUSTED = 0.003
"""A displacement whose standard deviation after one window is larger than this, m, is not seen."""
_NOISE_FLOOR = 0.003
"""Rounding to mm and errors of the model of the scene, m."""
_EDGE = 2
"""Pixels this near an edge of the static picture are left out."""
_FLAT = 2e-3
"""Largest second difference of inverse depth, relative, on a plane."""
_GRAZING = 0.15
"""Least cosine between ray and normal."""


class StaticScene(NamedTuple):
    """Pixels of flat static surfaces inside the person volume, shuffled, and how a movement changes their depth."""

    pixel: NDArray[np.int32]
    """(n,) flat index."""
    depth: F32
    """(n,) m."""
    jacobian: F32
    """(n, 7) change of depth by t (m/m), w (m/rad) and scale (m)."""
    sigma: F32
    """(n,) standard deviation of the measured depth, m."""
    size: F64
    """(6, 6): x' size x is the mean square displacement of the scene by the twist x, m^2."""


class Fit(NamedTuple):
    """What one window said."""

    twist: F64
    """(7,) t (m), w (rad), scale."""
    displacement: float
    """Root mean square displacement of the scene, m."""
    used: float
    """Share of the pixels looked at that agreed with the static scene."""
    deeper: float
    """Share that lies behind it."""


def static_scene(info: CameraInfo, background: Background, lower: F64, upper: F64) -> StaticScene:
    """Choose the pixels to watch. lower, upper: (3,) the person volume, base frame, m."""
    depth = background.depth.astype(float)
    u, v = np.meshgrid(background.ray_x.astype(float), background.ray_y.astype(float))
    ray = np.stack([u, v, np.ones_like(u)], -1)
    points = ray * depth[..., None]
    T = np.asarray(info.T_base_camera, float).reshape(4, 4)
    world = points @ T[:3, :3].T + T[:3, 3]
    inside = ((world >= lower - 0.01) & (world <= upper + 0.01)).all(-1)
    in_range = (depth >= info.depth_min * 1.05) & (depth <= info.depth_max * 0.95)
    normal = np.zeros_like(points)
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    normal[1:-1, 1:-1] = np.cross(across, down)
    length = np.linalg.norm(normal, axis=-1)
    normal /= np.maximum(length, 1e-12)[..., None]
    slope = (normal * ray).sum(-1)
    facing = np.abs(slope) / np.linalg.norm(ray, axis=-1) > _GRAZING
    chosen = inside & in_range & facing & (length > 0.0) & _flat(depth)
    n, r, z = normal[chosen], ray[chosen], depth[chosen]
    steep = slope[chosen][:, None]
    jacobian = np.concatenate([-n / steep, -z[:, None] * np.cross(r, n) / steep, z[:, None]], 1)
    order = np.random.default_rng(1).permutation(len(z))
    sigma = np.hypot(info.noise_coefficient * z**2, _NOISE_FLOOR)
    return StaticScene(
        np.flatnonzero(chosen)[order].astype(np.int32), z[order].astype(np.float32),
        np.ascontiguousarray(jacobian[order], np.float32), sigma[order].astype(np.float32), _size(points[chosen]),
    )  # fmt: skip


def _flat(depth: F64) -> NDArray[np.bool_]:
    """Pixels (h, w) around which inverse depth is affine in both directions, which it is on a plane."""
    inverse = 1.0 / np.maximum(depth, 1e-3)
    flat = np.zeros(depth.shape, bool)
    e = _EDGE
    if min(depth.shape) <= 2 * e + 2:
        return flat
    middle = inverse[e:-e, e:-e]
    ok = np.ones(middle.shape, bool)
    for k in range(1, e + 1):
        for dv, du in ((0, k), (k, 0), (k, k), (k, -k)):
            one = np.roll(inverse, (dv, du), (0, 1))[e:-e, e:-e]
            other = np.roll(inverse, (-dv, -du), (0, 1))[e:-e, e:-e]
            ok &= np.abs(one - 2.0 * middle + other) < _FLAT * middle
    flat[e:-e, e:-e] = ok
    return flat


def _size(points: F64) -> F64:
    """Mean of [1, -[P]x]' [1, -[P]x] over points (n, 3)."""
    if not len(points):
        return np.eye(6)
    mean, square = points.mean(0), points.T @ points / len(points)
    x, y, z = mean
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    out = np.eye(6)
    out[:3, 3:], out[3:, :3] = -cross, cross
    out[3:, 3:] = np.trace(square) * np.eye(3) - square
    return out


@njit(cache=True, nogil=True)
def gather(
    picture: NDArray[np.uint16],
    label: NDArray[np.uint8],
    pixel: NDArray[np.int32],
    depth: F32,
    jacobian: F32,
    sigma: F32,
    twist: F64,
    slack: float,
    first: int,
    count: int,
    normal: F64,
    right: F64,
    counts: NDArray[np.int64],
) -> None:
    """Add `count` pixels from number `first` on (round the end) to the normal equations.

    picture: (h * w,) mm, 0 invalid; label: (h * w,) classes of `perception.kernels`; twist: (7,) weights assume;
    normal: (7, 7), right: (7,), counts: (3,) pixels that agree with the static scene, lie before it, lie behind it;
    all added to. Pixels of the robot, its outline and of expected parts say nothing.
    """
    total = pixel.shape[0]
    row = np.empty(7)
    for k in range(count):
        i = (first + k) % total
        p = pixel[i]
        if picture[p] == 0 or label[p] == kernels.ROBOT or label[p] == kernels.PART or label[p] == kernels.EDGE:
            continue
        deviation = picture[p] * 0.001 - depth[i]
        rest = deviation
        for a in range(7):
            row[a] = jacobian[i, a]
            rest -= row[a] * twist[a]
        limit = 4.0 * sigma[i] + slack
        if not abs(rest) < limit:
            counts[1 if rest < 0.0 else 2] += 1
            continue
        counts[0] += 1
        weight = 1.0 - (rest / limit) * (rest / limit)
        weight = weight * weight / (sigma[i] * sigma[i])
        for a in range(7):
            left = weight * row[a]
            right[a] += left * deviation
            for b in range(a + 1):
                normal[a, b] += left * row[b]


class MovementWatch:
    """Follows one camera's fixed scene; `moved` says what is wrong. One instance per camera, one thread.

    The verdict comes within WITHIN frames of the movement, 2.5 s at 30 Hz, as long as at least LEAST of the static
    surfaces can be seen. Hidden ones for HIDDEN frames count as moved as well.
    """

    def __init__(self, info: CameraInfo, background: Background, lower: F64, upper: F64) -> None:
        self.scene = static_scene(info, background, lower, upper)
        self._prior = np.zeros((7, 7))
        self._prior[:6, :6] = self.scene.size / PRIOR**2
        self._prior[6, 6] = 1.0 / SCALE_PRIOR**2
        self._normal, self._right, self._counts = np.zeros((7, 7)), np.zeros(7), np.zeros(3, np.int64)
        self._first = 0
        self._frames = 0
        self._beyond = 0
        self._within = 0
        self._undecided = 0
        self.fit = Fit(np.zeros(7), 0.0, 0.0, 0.0)
        self.moved = ""
        """Empty, or how far the camera is from where the cell file says."""
        self.unseen = self._unseen()
        """Empty, or which movement the static surfaces in view do not show."""

    def _unseen(self) -> str:
        """Look for displacements that one window does not determine to within TRUSTED."""
        s = self.scene
        if len(s.pixel) < 500:
            return f"any movement: only {len(s.pixel)} pixels of flat static surfaces are in view"
        J = s.jacobian.astype(float) / s.sigma[:, None]
        # A third of the pixels is given to people, robot and holes, half of the weight to the tails.
        information = J.T @ J * (SHARE * FRAMES / len(s.pixel) / 3.0)
        information[6, 6] += 1.0 / SCALE_PRIOR**2
        twist = information[:6, :6] - np.outer(information[:6, 6], information[6, :6]) / information[6, 6]
        root = np.linalg.cholesky(s.size + 1e-9 * np.eye(6))
        inverse = np.linalg.inv(root)
        values, vectors = np.linalg.eigh(inverse @ twist @ inverse.T)
        deviation = 1.0 / math.sqrt(values[0]) if values[0] > 0.0 else math.inf
        if deviation <= TRUSTED:
            return ""
        worst = inverse.T @ vectors[:, 0]
        t, w = worst[:3], np.degrees(worst[3:])
        return (
            f"{deviation * 1e3:.0f} mm are lost in noise of a shift along ({t[0]:.1f}, {t[1]:.1f}, {t[2]:.1f}) with "
            f"a turn of ({w[0]:.0f}, {w[1]:.0f}, {w[2]:.0f}) degrees per metre, camera axes: more static surfaces, in "
            "other directions, must be in view"
        )

    def warm_up(self) -> None:
        """Load the compiled kernel; nothing of it stays."""
        s = self.scene
        blank, label = np.zeros(1, np.uint16), np.zeros(1, np.uint8)
        gather(
            blank, label, s.pixel, s.depth, s.jacobian, s.sigma, self.fit.twist, SLACK,
            0, 0, self._normal, self._right, self._counts,
        )  # fmt: skip

    def update(self, picture: NDArray[np.uint16], label: NDArray[np.uint8]) -> Fit | None:
        """Look at one frame (h, w) and its classes; return the fit at the end of a window."""
        s = self.scene
        if not len(s.pixel):
            return None
        count = min(SHARE, len(s.pixel))
        gather(
            picture.reshape(-1), label.reshape(-1), s.pixel, s.depth, s.jacobian, s.sigma, self.fit.twist, SLACK,
            self._first, count, self._normal, self._right, self._counts,
        )  # fmt: skip
        self._first = (self._first + count) % len(s.pixel)
        self._frames += 1
        return self._window() if self._frames >= FRAMES else None

    def _window(self) -> Fit:
        agree, before, behind = (int(n) for n in self._counts)
        asked = FRAMES * min(SHARE, len(self.scene.pixel))
        # Where hardly anything can be measured, a few wrong pixels are no share of the scene.
        looked = max(agree + before + behind, LEAST * asked)
        normal = self._normal + np.tril(self._normal, -1).T + self._prior
        twist = np.asarray(np.linalg.solve(normal, self._right), np.float64)
        size = math.sqrt(max(0.0, float(twist[:6] @ self.scene.size @ twist[:6])))
        fit = Fit(twist, size, agree / asked, behind / looked)
        self._normal[:], self._right[:], self._counts[:], self._frames = 0.0, 0.0, 0, 0
        self._judge(fit)
        # A gross misfit says that, not where the camera is: the next weights start from its place in the cell file.
        self.fit = fit if fit.displacement < PRIOR else fit._replace(twist=np.zeros(7))
        return fit

    def _judge(self, fit: Fit) -> None:
        gross = not fit.deeper <= DEEPER
        conclusive = gross or fit.used >= LEAST
        self._undecided = 0 if conclusive else self._undecided + FRAMES
        if not conclusive:
            if self._undecided >= HIDDEN and not self.moved:
                self.moved = f"{MOVED}or hidden, only {fit.used:.0%} of the fixed scene of the cell file can be seen"
            return
        # Anything that is no number counts as moved.
        if gross or not fit.displacement <= BEYOND:
            self._beyond, self._within = self._beyond + 1, 0
        elif fit.displacement <= BACK:
            self._beyond, self._within = 0, self._within + 1
        else:
            self._beyond = self._within = 0
        if self._beyond >= WINDOWS:
            self.moved = _words(fit, gross)
        elif self._within >= WINDOWS:
            self.moved = ""


def _words(fit: Fit, gross: bool) -> str:
    if gross or not math.isfinite(fit.displacement):
        return f"{MOVED}{fit.deeper:.0%} of the picture lies behind the fixed scene of the cell file"
    angle = math.degrees(float(np.linalg.norm(fit.twist[3:6])))
    return f"{MOVED}the fixed scene appears {fit.displacement * 1e3:.0f} mm off, turned by {angle:.1f} degrees"
