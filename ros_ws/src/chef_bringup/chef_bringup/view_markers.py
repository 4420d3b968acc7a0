# SPDX-License-Identifier: Apache-2.0
"""Node `view_markers`: objects, force, workspace and rewards as markers for rviz, and their frames as TF.

`Scene` holds the newest messages and turns them into one MarkerArray; the node only passes messages on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time
from chef_control.node import CellNode, ConfigError, Param, run
from chef_msgs.msg import EpisodeInfo, Step
from chef_task import geometry
from chef_task.limits import Limits
from chef_task.messages import decode
from chef_task.spaces import OBJECTS
from geometry_msgs.msg import Point, Pose, PoseArray, PoseStamped, TransformStamped, WrenchStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from chef_bringup import view_scene
from chef_bringup.graph import ArgumentError
from chef_bringup.view_robot import links
from chef_bringup.view_scene import BASE_FRAME

try:
    from tf2_msgs.msg import TFMessage
except ImportError:     # not among the wheels: markers then go without frames of the objects
    TFMessage = None  # type: ignore[assignment,misc]

PERIOD_S = 0.05
_SENSORS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def _point(p) -> Point:
    return Point(x=float(p[0]), y=float(p[1]), z=float(p[2]))


def _pose(pose) -> Pose:
    """x y z qw qx qy qz as a message."""
    out = Pose(position=_point(pose))
    q = out.orientation
    q.w, q.x, q.y, q.z = (float(v) for v in pose[3:])
    return out


def _marker(name: str, number: int, kind: int, rgba, frame: str = BASE_FRAME) -> Marker:
    out = Marker(ns=name, id=number, type=kind, action=Marker.ADD)
    # no stamp: rviz takes the newest transforms, live and from a bag alike
    out.header.frame_id = frame
    out.color = ColorRGBA(r=float(rgba[0]), g=float(rgba[1]), b=float(rgba[2]), a=float(rgba[3]))
    out.pose.orientation.w = 1.0
    return out


class Scene:
    """The newest of every message, as markers.

    Args:
        frames: that TF knows from the robot's description; the force is drawn in its own if it is one of
            them, else at the tool.
    """

    def __init__(self, frames: set[str] = frozenset()):
        self._frames = frames
        self.limits = Limits()
        self._objects: np.ndarray | None = None
        self._tcp: np.ndarray | None = None
        self._wrench: tuple[str, np.ndarray] | None = None
        self._lines: list[str] = []

    def objects(self, m: PoseArray) -> None:
        self._objects = decode("objects", m)["poses"]

    def tcp_pose(self, m: PoseStamped) -> None:
        self._tcp = decode("tcp_pose", m)["pose"]

    def wrench(self, m: WrenchStamped) -> None:
        self._wrench = m.header.frame_id, decode("wrench", m)["force"]

    def step(self, m: Step) -> None:
        acting = None if m.last else int(m.task)
        self._lines = [f"step {m.index}", *view_scene.reward_lines(m.rewards.tasks, m.rewards.values, acting)]

    def episode(self, m: EpisodeInfo) -> None:
        try:
            metadata = json.loads(m.metadata or "{}")
        except ValueError:
            metadata = {}
        self.limits = view_scene.limits_of(metadata if isinstance(metadata, dict) else {})
        if m.event == EpisodeInfo.END:
            self._lines = [*self._lines, f"ended by {m.termination_reason}"]

    def markers(self) -> MarkerArray:
        """Everything that is known by now."""
        box = _marker("workspace", 0, Marker.LINE_LIST, view_scene.WORKSPACE_COLOUR)
        box.points = [_point(p) for p in view_scene.workspace_edges(self.limits)]
        box.scale.x = 0.002
        out = [box]
        if self._objects is not None:
            for i, shape in enumerate(view_scene.objects(self._objects)):
                cube = _marker("objects", i, Marker.CUBE, shape.rgba)
                cube.pose = _pose(shape.pose)
                cube.scale.x, cube.scale.y, cube.scale.z = shape.size
                out.append(cube)
        force = self._force()
        if force is not None:
            out.append(force)
        if self._lines:
            text = _marker("rewards", 0, Marker.TEXT_VIEW_FACING, (1.0, 1.0, 1.0, 1.0))
            x, y, z = self.limits.workspace_centre_m
            text.pose.position = _point((x, y + 0.35, z + 0.2))
            text.scale.z = 0.03
            text.text = "\n".join(self._lines)
            out.append(text)
        return MarkerArray(markers=out)

    def _force(self) -> Marker | None:
        if self._wrench is None:
            return None
        frame, force = self._wrench
        if frame in self._frames:
            pose = geometry.IDENTITY_POSE
        elif self._tcp is not None:
            mount = view_scene.SENSOR_FROM_TCP.get(frame, geometry.IDENTITY_POSE)
            frame, pose = BASE_FRAME, geometry.compose(self._tcp, mount)
        else:
            return None
        arrow = view_scene.force_arrow(force, pose, self.limits.force_n)
        out = _marker("wrist_force", 0, Marker.ARROW, arrow.rgba, frame)
        out.points = [_point(arrow.start), _point(arrow.end)]
        out.scale.x, out.scale.y, out.scale.z = 0.008, 0.016, 0.0
        return out

    def transforms(self, stamp: Time) -> list[TransformStamped]:
        """Frames that the robot's description does not give: `tcp_measured` and `object_<colour>`."""
        poses = {} if self._tcp is None else {"tcp_measured": self._tcp}
        if self._objects is not None:
            poses.update({f"object_{c}": p for c, p in zip(OBJECTS, self._objects)})
        out = []
        for name, pose in poses.items():
            t = TransformStamped(child_frame_id=name)
            t.header.stamp, t.header.frame_id = stamp, BASE_FRAME
            t.transform.translation.x, t.transform.translation.y, t.transform.translation.z = map(float, pose[:3])
            t.transform.rotation = _pose(pose).orientation
            out.append(t)
        return out


class ViewMarkers(CellNode):
    """The node; all names are relative but /tf."""

    PARAMS = (Param("urdf", "", "the robot's description, to know its frames; empty: none"),)

    def __init__(self, name: str):
        super().__init__(name)
        try:
            frames = links(Path(self.params["urdf"])) if self.params["urdf"] else set()
        except ArgumentError as error:
            raise ConfigError(str(error)) from None
        self.scene = Scene(frames)
        for kind, topic, take, qos in (
            (PoseArray, "objects", self.scene.objects, _SENSORS),
            (PoseStamped, "tcp_pose", self.scene.tcp_pose, _SENSORS),
            (WrenchStamped, "wrench", self.scene.wrench, _SENSORS),
            (Step, "step", self.scene.step, QoSProfile(depth=10)),
            (EpisodeInfo, "episode", self.scene.episode, QoSProfile(depth=10)),
        ):
            self.create_subscription(kind, topic, lambda m, take=take, topic=topic: self._take(take, topic, m), qos)
        self._markers = self.create_publisher(MarkerArray, "markers", QoSProfile(depth=1))
        self._tf = self.create_publisher(TFMessage, "/tf", QoSProfile(depth=10)) if TFMessage is not None else None
        self.every(PERIOD_S, self._publish)

    def _take(self, take, topic: str, message) -> None:
        try:
            take(message)
        except ValueError as error:
            self.get_logger().warning(f"{topic}: {error}", throttle_duration_sec=5.0)

    def _publish(self) -> None:
        self._markers.publish(self.scene.markers())
        if self._tf is not None:
            self._tf.publish(TFMessage(transforms=self.scene.transforms(self.get_clock().now().to_msg())))


def main() -> None:
    """Executable `view_markers`."""
    run(ViewMarkers, "view_markers")


if __name__ == "__main__":
    sys.exit(main())
