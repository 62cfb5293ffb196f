"""Kinematics against pinocchio, capsules against every hull vertex, inverse kinematics."""

from __future__ import annotations

import math

import numpy as np
import pinocchio
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from robots.contract import PartGeometry
from robots.model import IkError, ModelError, RobotModel, available_models, part_capsule
from robots.urdf import UrdfError, collision_meshes, package_file, transform

NAMES = ["panda", "fr3", "iiwa14", "ur5e"]
RNG = np.random.default_rng(3)


def configurations(model: RobotModel, count: int) -> np.ndarray:
    low, high = np.maximum(model.q_lower, -3.2), np.minimum(model.q_upper, 3.2)
    return np.random.default_rng(11).uniform(low, high, (count, model.dof))


def tool_frame(model: RobotModel) -> np.ndarray:
    return transform(model.tool.mount.xyz, model.tool.mount.rpy) @ transform(model.tool.tcp.xyz, model.tool.tcp.rpy)


def test_models_are_found_and_unknown_ones_are_named() -> None:
    assert available_models() == sorted(NAMES)
    assert [RobotModel.load(name).dof for name in NAMES] == [7, 7, 7, 6]
    with pytest.raises(ModelError, match="choose one of"):
        RobotModel.load("pandaa")
    with pytest.raises(ModelError, match="panda_hand"):
        RobotModel.load("panda", "hammer")
    with pytest.raises(UrdfError, match="make setup"):
        package_file("no_such_package_here", "x.urdf")
    with pytest.raises(UrdfError, match="no file"):
        package_file("pybullet_data", "no/such.urdf")


@pytest.mark.parametrize("name", NAMES)
def test_kernels_agree_with_pinocchio(name: str) -> None:
    model = RobotModel.load(name)
    pin, data = model._pin, model._pin.createData()
    T_tool = tool_frame(model)
    for q in configurations(model, 40):
        pinocchio.computeJointJacobians(pin, data, q)
        joint = np.array(data.oMi[pin.njoints - 1].homogeneous)
        assert np.abs(joint @ T_tool - model.fk(q)).max() < 1e-9
        frame = pinocchio.Frame("t", pin.njoints - 1, pinocchio.SE3(T_tool), pinocchio.FrameType.OP_FRAME)
        J = pinocchio.getJointJacobian(pin, data, pin.njoints - 1, pinocchio.ReferenceFrame.LOCAL)
        action = pinocchio.SE3(frame.placement).toActionMatrixInverse() @ J
        R = (joint @ T_tool)[:3, :3]
        expected = np.vstack([R @ action[:3], R @ action[3:]])
        assert np.abs(expected - model.jacobian(q)).max() < 1e-9
        rotations, origins = model.frames(q)
        for i in range(model.dof):
            assert np.abs(np.array(data.oMi[i + 1].translation) - origins[i + 1]).max() < 1e-9
            assert np.abs(np.array(data.oMi[i + 1].rotation) - rotations[i + 1]).max() < 1e-9


def test_panda_tcp_is_the_grasp_target_of_its_urdf_and_points_out_of_the_hand() -> None:
    model = RobotModel.load("panda")
    pin, data = model._pin, model._pin.createData()
    q = model.home
    pinocchio.framesForwardKinematics(pin, data, q)
    target = np.array(data.oMf[pin.getFrameId("panda_grasptarget")].homogeneous)
    assert np.abs(target - model.fk(q)).max() < 1e-9
    assert model.fk(q)[2, 2] == pytest.approx(-1.0, abs=1e-6)  # the resting hand points down
    hand = np.array(data.oMf[pin.getFrameId("panda_hand")].translation)
    assert (model.fk(q)[:3, 3] - hand) @ model.fk(q)[:3, 2] == pytest.approx(0.105, abs=1e-9)


def inside(points: np.ndarray, a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    d = b - a
    t = np.clip((points - a) @ d / max(float(d @ d), 1e-12), 0, 1)
    return np.linalg.norm(points - a - t[:, None] * d, axis=1) <= radius


def link_clouds(model: RobotModel) -> dict[str, np.ndarray]:
    """All collision vertices of each link, in the link's frame; fingers at the largest opening."""
    meshes = collision_meshes(model.urdf_path)
    clouds: dict[str, list[np.ndarray]] = {}
    for mesh in meshes:
        v = np.asarray(trimesh.load(mesh.path, force="mesh").vertices)
        clouds.setdefault(mesh.link, []).append(v @ mesh.T_link_mesh[:3, :3].T + mesh.T_link_mesh[:3, 3])
    if model.name == "ur5e":
        v = np.asarray(trimesh.load(model.urdf_path.parent / "collision/base.obj", force="mesh").vertices)
        clouds["base_link_inertia"] = [v * np.array([-1, -1, 1])]
    return {link: np.concatenate(parts) for link, parts in clouds.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_hull_vertex_lies_inside_its_capsule(name: str) -> None:
    model = RobotModel.load(name)
    clouds = link_clouds(model)
    specs = {spec.link: spec for spec in model.description.capsules}
    for link, cloud in clouds.items():
        if "hand" in link or "finger" in link:
            continue
        spec = specs.pop(link)
        assert inside(cloud, np.array(spec.a), np.array(spec.b), spec.radius).all(), link
    assert not specs, f"capsules of links without a mesh: {list(specs)}"


def test_panda_hand_and_open_fingers_lie_inside_the_tool_capsules() -> None:
    model = RobotModel.load("panda")
    clouds = link_clouds(model)
    specs = {spec.link: spec for spec in model.tool.capsules}
    hand, fingers = specs["hand"], specs["fingers"]
    assert inside(clouds["panda_hand"], np.array(hand.a), np.array(hand.b), hand.radius).all()
    for opening in np.linspace(0.0, 0.04, 5):
        left = clouds["panda_leftfinger"] + np.array([0, opening, 0.0584])
        right = clouds["panda_rightfinger"] + np.array([0, -opening, 0.0584])
        for cloud in (left, right):
            assert inside(cloud, np.array(fingers.a), np.array(fingers.b), fingers.radius).all()


@pytest.mark.parametrize("name", ["iiwa14", "ur5e"])
def test_generic_gripper_lies_inside_its_capsules(name: str) -> None:
    tool = RobotModel.load(name).tool
    assert tool.body is not None
    assert tool.finger is not None
    specs = {spec.link: spec for spec in tool.capsules}
    corners = np.array(np.meshgrid([-0.5, 0.5], [-0.5, 0.5], [-0.5, 0.5])).reshape(3, -1).T
    body = corners * tool.body.size + np.array(tool.body.xyz)
    assert inside(body, np.array(specs["hand"].a), np.array(specs["hand"].b), specs["hand"].radius).all()
    finger = corners * tool.finger.size + np.array(tool.finger.xyz) + np.array([0, tool.opening_max / 2, 0])
    for cloud in (finger, finger * np.array([1, -1, 1])):
        assert inside(cloud, np.array(specs["fingers"].a), np.array(specs["fingers"].b), specs["fingers"].radius).all()


@pytest.mark.parametrize("name", NAMES)
def test_capsules_move_with_their_links(name: str) -> None:
    """Capsule ends against pinocchio's own frames, with the held part last."""
    model = RobotModel.load(name)
    part = PartGeometry("p", (0.04, 0.05, 0.06), (0.0, 0.0, 0.01, 0.0, 0.0, 0.0, 1.0))
    pin, data = model._pin, model._pin.createData()
    Q = configurations(model, 5)
    paths = model.capsule_paths(Q, part)
    for row, q in enumerate(Q):
        a, b, radius = model.capsules(q, part)
        assert np.array_equal(paths[0][row], a)
        assert np.array_equal(paths[1][row], b)
        pinocchio.framesForwardKinematics(pin, data, q)
        for k, spec in enumerate(model.description.capsules):
            T = np.array(data.oMf[pin.getFrameId(spec.link)].homogeneous)
            assert np.abs(T[:3, :3] @ np.array(spec.a) + T[:3, 3] - a[k]).max() < 1e-9
            assert radius[k] == spec.radius
    assert model.capsule_names(part)[-1] == "held"
    assert len(model.capsule_names()) == len(model.capsules(Q[0])[0]) == len(radius) - 1


@given(
    st.tuples(*[st.floats(0.005, 0.3)] * 3),
    st.tuples(*[st.floats(-0.1, 0.1)] * 3),
    st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda v: sum(x * x for x in v) > 0.01),
)
def test_held_part_lies_inside_its_capsule(size: tuple, position: tuple, quaternion: tuple) -> None:
    unit = np.array(quaternion) / np.linalg.norm(quaternion)
    a, b, radius = part_capsule(PartGeometry("p", size, (*position, *unit)))
    x, y, z, w = unit
    R = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    corners = np.array(np.meshgrid([-0.5, 0.5], [-0.5, 0.5], [-0.5, 0.5])).reshape(3, -1).T * size
    assert inside(corners @ R.T + np.array(position), a, b, radius).all()


@pytest.mark.parametrize(
    "part",
    [
        PartGeometry("p", (0.0, 0.1, 0.1), (0, 0, 0, 0, 0, 0, 1)),
        PartGeometry("p", (math.nan, 0.1, 0.1), (0, 0, 0, 0, 0, 0, 1)),
        PartGeometry("p", (0.1, 0.1, 0.1), (0, 0, 0, 0, 0, 0, 0)),
        PartGeometry("p", (0.1, 0.1, 9.0), (0, 0, 0, 0, 0, 0, 1)),
        PartGeometry("p", (0.1, 0.1, 0.1), (0, 0, 0, 1)),
    ],
)
def test_impossible_parts_are_refused(part: PartGeometry) -> None:
    with pytest.raises(ValueError, match="part p"):
        part_capsule(part)


@settings(max_examples=60)
@given(st.sampled_from(NAMES), st.integers(0, 10_000))
def test_ik_reaches_what_fk_gives(name: str, seed: int) -> None:
    model = RobotModel.load(name)
    rng = np.random.default_rng(seed)
    low, high = np.maximum(model.q_lower, -3.0) + 0.05, np.minimum(model.q_upper, 3.0) - 0.05
    q = rng.uniform(low, high)
    goal = model.fk(q)
    near = np.clip(q + rng.uniform(-0.1, 0.1, model.dof), low, high)
    solution = model.ik(goal, near)
    assert model.in_limits(solution)
    assert np.abs(model.fk(solution) - goal).max() < 5e-6


def test_ik_finds_most_random_poses_from_home_and_repeats_itself() -> None:
    model = RobotModel.load("panda")
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(100):
        goal = model.fk(rng.uniform(model.q_lower, model.q_upper))
        try:
            q = model.ik(goal, model.home)
        except IkError:
            continue
        assert np.array_equal(q, model.ik(goal, model.home))
        found += 1
    assert found >= 97


def test_ik_says_why_not() -> None:
    model = RobotModel.load("panda")
    far = model.fk(model.home)
    far[0, 3] = 3.0
    with pytest.raises(IkError, match="beyond") as error:
        model.ik(far, model.home)
    assert error.value.reason == "out_of_reach"
    inside_base = model.fk(model.home)
    inside_base[:3, 3] = (0.0, 0.0, 0.2)
    with pytest.raises(IkError) as error:
        model.ik(inside_base, model.home)
    assert error.value.reason == "no_solution"
    for bad in (np.full((4, 4), np.nan), np.eye(3), np.diag([1.0, 1.0, -1.0, 1.0])):
        with pytest.raises(IkError) as error:
            model.ik(bad, model.home)
        assert error.value.reason == "invalid"


def test_limits_elbow_and_gravity() -> None:
    model = RobotModel.load("panda")
    assert model.in_limits(model.home)
    assert not model.in_limits(np.full(7, np.nan))
    assert not model.in_limits(model.q_upper + 0.01)
    assert not model.in_limits(model.home[:6])
    assert np.allclose(model.elbow(np.zeros(7) + 0.0), [0.0825, 0.0, 0.649], atol=1e-9)
    assert np.allclose(model.elbow_path(np.zeros((2, 7)))[1], [0.0825, 0.0, 0.649], atol=1e-9)
    stretched = np.array([0, 1.57, 0, -0.07, 0, 1.57, 0.0])
    assert abs(model.gravity(stretched)[1]) > 30.0  # the arm lies out flat
    assert np.allclose(model.torque(stretched, np.zeros(7), np.zeros(7)), model.gravity(stretched))
    with pytest.raises(ValueError, match="7 joints"):
        model.fk(np.zeros(6))
    with pytest.raises(ValueError, match="7 joints"):
        model.capsule_paths(np.zeros((3, 6)))


def test_tool_mass_counts_in_gravity() -> None:
    model = RobotModel.load("ur5e")
    q = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    with_tool = model.gravity(q)
    pin = pinocchio.buildModelFromUrdf(str(model.urdf_path))
    bare = pinocchio.computeGeneralizedGravity(pin, pin.createData(), q)
    lever = np.linalg.norm(model.fk(q)[:2, 3] - model.frames(q)[1][2][:2])
    assert abs(with_tool[1] - bare[1]) == pytest.approx(0.8 * 9.81 * lever, rel=0.2)
