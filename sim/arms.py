"""Which URDF the twin loads for a robot model, which joints move it, and what its simulated drives can do."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from pathlib import Path
from typing import NamedTuple


class ArmSpec(NamedTuple):
    """One arm with its gripper, as PyBullet loads it."""

    model: str
    urdf: Path
    joints: tuple[str, ...]
    """Arm joints from the base to the flange."""
    v_max: tuple[float, ...]
    """rad/s."""
    brake: tuple[float, ...]
    """Joint deceleration of the simulated drives' own stop, half of what the arm is capable of, rad/s^2."""
    hand: str
    """Link that carries the fingers."""
    fingers: tuple[str, str]
    """Prismatic finger joints."""
    finger_range: float
    """Stroke of each finger, m."""
    home_deg: tuple[float, ...]
    """Where the arm rests if the cell file does not say."""
    base_yaw: float = 0.0
    """Turn of the URDF's root about the vertical, so that the arm's base frame is the cell's, rad."""


def package_dir(package: str) -> Path:
    """Directory of an installed data package, found without importing it. Raises FileNotFoundError."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the Python package {package} is not installed; it carries the robot's meshes")
    return Path(next(iter(spec.submodule_search_locations)))


def cache_dir() -> Path:
    """Where generated files (decimated meshes, combined URDFs) are kept; made if missing."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = Path(base) / "collabcell"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        import tempfile

        path = Path(tempfile.gettempdir()) / f"collabcell-{os.getuid()}"
        path.mkdir(parents=True, exist_ok=True)
    return path


def write_atomically(path: Path, data: bytes) -> None:
    """Write so that a reader in another process sees the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, path)


# Stroke, pad and palm of the plain parallel gripper put on arms whose URDF has none, m.
_PALM = (0.06, 0.14, 0.07)
_FINGER = (0.02, 0.012, 0.07)
_STROKE = 0.04


def _gripper_urdf(flange: str, flange_z: float) -> str:
    """Links and joints of the plain gripper, mounted `flange_z` along z of link `flange` (z out of the flange)."""
    palm_z, finger_z = _PALM[2] / 2, _PALM[2] + _FINGER[2] / 2

    def box(name: str, size: tuple[float, float, float], xyz: str, mass: float) -> str:
        shape = f'<origin xyz="{xyz}" rpy="0 0 0"/><geometry><box size="{size[0]} {size[1]} {size[2]}"/></geometry>'
        inertia = mass * max(size) ** 2 / 6
        return (
            f'<link name="{name}"><inertial><origin xyz="{xyz}"/><mass value="{mass}"/>'
            f'<inertia ixx="{inertia}" ixy="0" ixz="0" iyy="{inertia}" iyz="0" izz="{inertia}"/></inertial>'
            f"<visual>{shape}</visual><collision>{shape}</collision></link>"
        )

    def finger(name: str, side: int) -> str:
        return box(name, _FINGER, f"0 {side * _FINGER[1] / 2} {finger_z}", 0.05) + (
            f'<joint name="{name}_joint" type="prismatic"><parent link="gripper_palm"/><child link="{name}"/>'
            f'<origin xyz="0 0 0"/><axis xyz="0 {side} 0"/>'
            f'<limit lower="0" upper="{_STROKE}" effort="60" velocity="0.2"/></joint>'
        )

    return (
        box("gripper_palm", _PALM, f"0 0 {palm_z}", 0.6)
        + f'<joint name="gripper_mount" type="fixed"><parent link="{flange}"/><child link="gripper_palm"/>'
        f'<origin xyz="0 0 {flange_z}"/></joint>' + finger("finger_left", 1) + finger("finger_right", -1)
    )


def _with_gripper(source: Path, flange: str, flange_z: float = 0.0) -> Path:
    """Write the arm's URDF with the plain gripper and absolute mesh paths into the cache; return its path."""
    text = source.read_text()

    def absolute(match: re.Match[str]) -> str:
        name = re.sub(r"^package://", "", match.group(1))
        return f'filename="{(source.parent / name).resolve()}"'

    text = re.sub(r'filename="([^"]+)"', absolute, text)
    # Attributes of another simulator, whose prefix the file does not declare.
    text = text.replace("drake:", "drake_")
    # PyBullet takes a link without inertia for 1 kg and 1 kg m^2.
    tiny = '<mass value="0.001"/><inertia ixx="1e-6" ixy="0" ixz="0" iyy="1e-6" iyz="0" izz="1e-6"/>'
    text = re.sub(r'<link name="([^"]+)"\s*/>', rf'<link name="\1"><inertial>{tiny}</inertial></link>', text)
    text = text.replace("</robot>", _gripper_urdf(flange, flange_z) + "</robot>")
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = cache_dir() / f"{source.stem}-gripper-{digest}.urdf"
    if not path.exists():
        write_atomically(path, text.encode())
    return path


def arm_spec(model: str) -> ArmSpec:
    """Return the twin's description of `panda`, `fr3` (drawn as a Panda), `iiwa14` or `ur5e`. Raises ValueError for
    another name and FileNotFoundError when the package with its meshes is missing."""
    if model in ("panda", "fr3"):
        return ArmSpec(
            model,
            package_dir("pybullet_data") / "franka_panda" / "panda.urdf",
            tuple(f"panda_joint{i}" for i in range(1, 8)),
            (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
            # Half the joint accelerations of the vendor's interface specification.
            (7.5, 3.75, 5.0, 6.25, 7.5, 10.0, 10.0),
            "panda_hand",
            ("panda_finger_joint1", "panda_finger_joint2"),
            0.04,
            (0.0, -45.0, 0.0, -135.0, 0.0, 90.0, 45.0),
        )
    if model in ("iiwa14", "kuka_iiwa"):
        return ArmSpec(
            "iiwa14",
            _with_gripper(package_dir("pybullet_data") / "kuka_iiwa" / "model.urdf", "lbr_iiwa_link_7", 0.045),
            tuple(f"lbr_iiwa_joint_{i}" for i in range(1, 8)),
            (1.484, 1.484, 1.745, 1.309, 2.269, 2.356, 2.356),
            (2.5, 2.5, 3.0, 3.0, 5.0, 5.0, 5.0),
            "gripper_palm",
            ("finger_left_joint", "finger_right_joint"),
            _STROKE,
            (0.0, 30.0, 0.0, -80.0, 0.0, 70.0, 0.0),
        )
    if model == "ur5e":
        return ArmSpec(
            "ur5e",
            _with_gripper(package_dir("airo_models") / "arms" / "ur5e" / "ur5e.urdf", "tool0"),
            (
                "shoulder_pan_joint",
                "shoulder_lift_joint",
                "elbow_joint",
                "wrist_1_joint",
                "wrist_2_joint",
                "wrist_3_joint",
            ),
            (3.1416, 3.1416, 3.1416, 3.1416, 3.1416, 3.1416),
            (5.0, 3.0, 7.0, 7.0, 7.0, 7.0),
            "gripper_palm",
            ("finger_left_joint", "finger_right_joint"),
            _STROKE,
            (0.0, -90.0, 100.0, -100.0, -90.0, 0.0),
        )
    raise ValueError(f"the twin has no arm {model!r}; it has panda, fr3, iiwa14, ur5e")
