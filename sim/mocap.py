"""Readers of recorded motion: pybullet_data clips, BVH, and `.joints_m.npz` (joint positions in metres).

All come out as positions of seventeen named joints, z up, metres. Only directions of limbs and the path of the pelvis
are used later, so skeletons of any proportion fit.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sim.arms import package_dir

F64 = NDArray[np.float64]

JOINTS = (
    "pelvis",
    "neck",
    "head",
    "l_shoulder",
    "l_elbow",
    "l_wrist",
    "r_shoulder",
    "r_elbow",
    "r_wrist",
    "l_hip",
    "l_knee",
    "l_ankle",
    "l_toe",
    "r_hip",
    "r_knee",
    "r_ankle",
    "r_toe",
)
INDEX = {name: i for i, name in enumerate(JOINTS)}
_ALIASES: dict[str, tuple[str, ...]] = {
    "pelvis": ("hips", "hip", "pelvis", "root"),
    "neck": ("neck",),
    "head": ("head",),
    "l_shoulder": ("lshldr", "leftarm", "leftupperarm"),
    "l_elbow": ("lforearm", "leftforearm"),
    "l_wrist": ("lhand", "lefthand"),
    "l_hip": ("lthigh", "leftupleg", "leftthigh"),
    "l_knee": ("lshin", "leftleg", "leftshin"),
    "l_ankle": ("lfoot", "leftfoot"),
    "l_toe": ("lfootend", "lefttoebase", "leftfootend"),
}
LONGEST_FILE = 200_000_000
FASTEST = 20.0
"""A joint faster than this is a marker swapped by the recording system, not a person, m/s."""
CALIBRATION_JUMP = 8.0
"""Recordings begin with a calibration pose and jump out of it; faster than this in the first frames is that, m/s."""
_UNITS = (1.0, 0.01, 0.001, 0.056444, 0.0254)
"""Metres per unit of known recordings: m, cm, mm, the CMU database's 1/0.45 inch, inch."""


class ClipError(Exception):
    """A clip that cannot be played; the text says why and what to do."""


class Clip(NamedTuple):
    """Recorded motion."""

    name: str
    dt: float
    """Time between frames, s."""
    joints: F64
    """(frames, 17, 3) in the order of `JOINTS`, z up, m; NaN columns: the recording lacks the joint."""

    @property
    def has_legs(self) -> bool:
        return bool(np.isfinite(self.joints[:, INDEX["l_knee"] :]).any())

    @property
    def duration(self) -> float:
        return self.dt * (len(self.joints) - 1)


def pybullet_clips() -> list[str]:
    """Names of the clips of people that pybullet_data carries."""
    return sorted(p.stem for p in (package_dir("pybullet_data") / "data" / "motions").glob("humanoid3d_*.txt"))


def read_clip(source: str | Path) -> Clip:
    """Read a clip by path (`.bvh`, `.joints_m.npz`) or by the name of a pybullet clip. Raises ClipError."""
    text = str(source)
    if re.fullmatch(r"humanoid3d_[a-z_]+", text):
        path = package_dir("pybullet_data") / "data" / "motions" / f"{text}.txt"
        if not path.is_file():
            raise ClipError(f"pybullet_data has no clip {text}; it has {', '.join(pybullet_clips())}")
        return _checked(_read_humanoid(path), calibration=False)
    path = Path(text)
    if not path.is_file():
        raise ClipError(
            f"there is no clip {text}: give a .bvh or .joints_m.npz file, or a name such as humanoid3d_walk"
        )
    if path.stat().st_size > LONGEST_FILE:
        raise ClipError(f"{path}: larger than {LONGEST_FILE // 1_000_000} MB")
    if path.suffix.lower() == ".bvh":
        return _checked(_read_bvh(path))
    if path.name.endswith(".npz"):
        return _checked(_read_npz(path))
    raise ClipError(f"{path}: neither .bvh nor .joints_m.npz")


def _checked(clip: Clip, calibration: bool = True) -> Clip:
    """Cut a leading calibration pose off, refuse marker jumps and clips that are no motion of a person."""
    joints = clip.joints
    if not (math.isfinite(clip.dt) and 1e-4 < clip.dt < 0.5):
        raise ClipError(f"{clip.name}: {clip.dt} s between frames is no frame time")
    finite = np.isfinite(joints)
    present = np.asarray(finite.all(axis=(0, 2)))
    if np.any(finite.any(axis=(0, 2)) != present):
        raise ClipError(f"{clip.name}: some joint positions are not finite")
    missing = [n for n in JOINTS[:9] if not present[INDEX[n]]]
    if missing:
        raise ClipError(f"{clip.name}: lacks the joints {', '.join(missing)}")
    if len(joints) < 3 or np.abs(joints[:, present]).max() > 1e3:
        raise ClipError(f"{clip.name}: {len(joints)} frames, or positions beyond 1 km: not a recording in metres")
    speed = np.linalg.norm(np.diff(joints[:, present], axis=0), axis=2).max(axis=1) / clip.dt
    start = 0
    for jump in np.flatnonzero(speed > CALIBRATION_JUMP) if calibration else ():
        if jump < start + 16 and start < 40:
            start = int(jump) + 3
    jumps = np.flatnonzero(speed > FASTEST)
    jumps = jumps[jumps >= start]
    if len(jumps):
        raise ClipError(
            f"{clip.name}: a joint jumps at {speed[jumps[0]]:.0f} m/s after {jumps[0] * clip.dt:.2f} s; "
            "that is a fault of the recording - use another clip or cut it"
        )
    if len(joints) - start < 3:
        raise ClipError(f"{clip.name}: nothing is left after its calibration pose")
    return Clip(clip.name, clip.dt, joints[start:])


def _z_up(points: F64) -> F64:
    """y up -> z up, x kept."""
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1)


def _pick(names: list[str], positions: F64, dt: float, name: str) -> Clip:
    """Find the seventeen joints among `names`; right-hand names are the left-hand ones mirrored."""
    plain = [re.sub(r"[^a-z0-9]", "", n.lower()) for n in names]
    joints = np.full((len(positions), len(JOINTS), 3), np.nan)
    for joint in JOINTS:
        mirrored = joint.startswith("r_")
        aliases = _ALIASES["l_" + joint[2:] if mirrored else joint]
        if mirrored:
            aliases = tuple(re.sub("^l", "r", a.replace("left", "right")) for a in aliases)
        for alias in aliases:
            if alias in plain:
                joints[:, INDEX[joint]] = positions[:, plain.index(alias)]
                break
    return Clip(name, dt, joints)


# ---------------------------------------------------------------- joints_m.npz


def _read_npz(path: Path) -> Clip:
    try:
        with np.load(path, allow_pickle=False) as data:
            positions = np.asarray(data["joints_m"], dtype=np.float64)
            names = [str(n) for n in data["names"]]
            dt = float(data["dt"])
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ClipError(f"{path}: not a joints_m file ({error})") from error
    if positions.ndim != 3 or positions.shape[1:] != (len(names), 3):
        raise ClipError(f"{path}: joints_m has the shape {positions.shape}, expected (frames, {len(names)}, 3)")
    return _pick(names, _z_up(positions), dt, path.name)


# ---------------------------------------------------------------- pybullet_data

# Offsets of the joints of pybullet_data's humanoid.urdf (which is scaled by four), x forwards, y up, z to the right, m.
_CHEST, _NECK, _HEAD = (0.0, 0.236151, 0.0), (0.0, 0.223894, 0.0), (0.0, 0.14, 0.0)
_SHOULDER, _UPPER, _FORE = (-0.02405, 0.2435, 0.18311), (0.0, -0.274788, 0.0), (0.0, -0.258947, 0.0)
_HIP, _THIGH, _SHIN, _TOE = (0.0, 0.0, 0.084887), (0.0, -0.421546, 0.0), (0.0, -0.40987, 0.0), (0.15, -0.05, 0.0)


def _read_humanoid(path: Path) -> Clip:
    try:
        frames = np.array(json.loads(path.read_text())["Frames"], dtype=np.float64)
    except (KeyError, ValueError) as error:
        raise ClipError(f"{path}: not a motion of pybullet_data ({error})") from error
    if frames.ndim != 2 or frames.shape[1] != 44:
        raise ClipError(f"{path}: frames of {frames.shape[1:]} numbers, expected 44")

    def ball(at: int) -> Rotation:
        return Rotation.from_quat(frames[:, [at + 1, at + 2, at + 3, at]])

    def hinge(at: int) -> Rotation:
        return Rotation.from_rotvec(frames[:, at : at + 1] * np.array([0.0, 0.0, 1.0]))

    joints = np.empty((len(frames), len(JOINTS), 3))
    root, at = ball(4), frames[:, 1:4]
    chest, chest_at = root * ball(8), at + root.apply(_CHEST)
    neck_at = chest_at + chest.apply(_NECK)
    joints[:, INDEX["pelvis"]], joints[:, INDEX["neck"]] = at, neck_at
    joints[:, INDEX["head"]] = neck_at + (chest * ball(12)).apply(_HEAD)
    # Column of hip, knee, ankle, shoulder, elbow on each side.
    for side, sign, (hip, knee, ankle, shoulder, elbow) in (
        ("r", 1, (16, 20, 21, 25, 29)),
        ("l", -1, (30, 34, 35, 39, 43)),
    ):
        mirror = np.array([1.0, 1.0, sign])
        thigh, hip_at = root * ball(hip), at + root.apply(_HIP * mirror)
        shin, knee_at = thigh * hinge(knee), hip_at + thigh.apply(_THIGH)
        ankle_at = knee_at + shin.apply(_SHIN)
        upper, shoulder_at = chest * ball(shoulder), chest_at + chest.apply(_SHOULDER * mirror)
        elbow_at = shoulder_at + upper.apply(_UPPER)
        limbs = {
            "hip": hip_at,
            "knee": knee_at,
            "ankle": ankle_at,
            "toe": ankle_at + (shin * ball(ankle)).apply(_TOE),
            "shoulder": shoulder_at,
            "elbow": elbow_at,
            "wrist": elbow_at + (upper * hinge(elbow)).apply(_FORE),
        }
        for name, value in limbs.items():
            joints[:, INDEX[f"{side}_{name}"]] = value
    return Clip(path.stem, float(frames[0, 0]), _z_up(joints))


# ---------------------------------------------------------------- BVH


class _Node(NamedTuple):
    name: str
    parent: int
    offset: tuple[float, float, float]
    channels: tuple[str, ...]


def _read_bvh(path: Path) -> Clip:
    try:
        text = path.read_text(encoding="utf-8", errors="strict")
        hierarchy, _, motion = text.partition("MOTION")
        nodes = _parse_hierarchy(hierarchy)
        count = sum(len(n.channels) for n in nodes)
        header = re.match(r"\s*Frames:\s*(\d+)\s+Frame Time:\s*(\S+)\s", motion)
        if header is None:
            raise ValueError("no `Frames:` and `Frame Time:` after MOTION")
        values = np.array(motion[header.end() :].split(), dtype=np.float64)
        frames = int(header.group(1))
        if count == 0 or values.size < count or values.size % count:
            raise ValueError(f"{values.size} numbers do not fill rows of {count} channels")
        rows = values.reshape(-1, count)[:frames]
        if not np.isfinite(rows).all():
            raise ValueError("a channel value is not finite")
        dt = float(header.group(2))
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise ClipError(f"{path}: not a BVH file that can be read: {error}") from error
    positions = _bvh_positions(nodes, rows)
    clip = _pick([n.name for n in nodes], _z_up(positions), dt, path.name)
    return Clip(clip.name, clip.dt, clip.joints * _unit_of(clip, path))


def _parse_hierarchy(text: str) -> list[_Node]:
    words = text.split()
    nodes: list[_Node] = []
    stack: list[int] = []
    name, i = "", 0
    while i < len(words):
        word = words[i]
        if word in ("ROOT", "JOINT"):
            name, i = words[i + 1], i + 2
        elif word == "End":
            name, i = (nodes[stack[-1]].name if stack else "") + "_end", i + 2
        elif word == "{":
            nodes.append(_Node(name, stack[-1] if stack else -1, (0.0, 0.0, 0.0), ()))
            stack.append(len(nodes) - 1)
            i += 1
        elif word == "}":
            stack.pop()
            i += 1
        elif word == "OFFSET":
            offset: Any = tuple(float(w) for w in words[i + 1 : i + 4])
            nodes[stack[-1]] = nodes[stack[-1]]._replace(offset=offset)
            i += 4
        elif word == "CHANNELS":
            n = int(words[i + 1])
            nodes[stack[-1]] = nodes[stack[-1]]._replace(channels=tuple(words[i + 2 : i + 2 + n]))
            i += 2 + n
        else:
            i += 1
    if not nodes or stack:
        raise ValueError("the hierarchy is empty or its braces do not match")
    return nodes


def _bvh_positions(nodes: list[_Node], rows: F64) -> F64:
    """(frames, nodes, 3) by forward kinematics; rotation channels apply in the order they are listed."""
    positions = np.empty((len(rows), len(nodes), 3))
    turns: list[Rotation] = []
    column = 0
    for i, node in enumerate(nodes):
        local = Rotation.identity(len(rows))
        offset = np.tile(np.array(node.offset), (len(rows), 1))
        moved = np.zeros_like(offset)
        for channel in node.channels:
            axis = "XYZ".index(channel[0])
            if channel.endswith("position"):
                moved[:, axis] += rows[:, column]
            else:
                local = local * Rotation.from_euler(channel[0].lower(), rows[:, [column]], degrees=True)
            column += 1
        if node.parent < 0:
            positions[:, i], turn = offset + moved, local
        else:
            positions[:, i] = positions[:, node.parent] + turns[node.parent].apply(offset + moved)
            turn = turns[node.parent] * local
        turns.append(turn)
    return positions


def _unit_of(clip: Clip, path: Path) -> float:
    """Metres per unit, from the length of the arm: an adult's upper arm and forearm measure 0.40 to 0.75 m."""
    first = clip.joints[0]
    shoulder, elbow, wrist = (first[INDEX[n]] for n in ("r_shoulder", "r_elbow", "r_wrist"))
    arm = float(np.linalg.norm(elbow - shoulder) + np.linalg.norm(wrist - elbow))
    if not (math.isfinite(arm) and arm > 0.0):
        raise ClipError(f"{path}: its joints have names this reader does not know")
    fitting = [u for u in _UNITS if 0.40 <= arm * u <= 0.75]
    if not fitting:
        raise ClipError(f"{path}: an arm of {arm:.3g} units is none in m, cm, mm, inch or the CMU unit")
    return min(fitting, key=lambda u: abs(arm * u - 0.53))
