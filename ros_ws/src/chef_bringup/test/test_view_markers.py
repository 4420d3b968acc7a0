# SPDX-License-Identifier: Apache-2.0
"""The node `view_markers` with real messages: an episode's are published, markers come back."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("chef_msgs.msg")
pytest.importorskip("visualization_msgs.msg")
sys.path[:0] = [str(Path(__file__).resolve().parents[2] / name) for name in ("chef_task", "chef_control", "chef_sim")]

import rclpy  # noqa: E402
from chef_task.bag import Episode  # noqa: E402
from chef_task.bag.definitions import typestore  # noqa: E402
from chef_task.bag.synthetic import write_synthetic_episode  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.serialization import deserialize_message  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from chef_bringup.domain import Domain  # noqa: E402
from chef_bringup.view_markers import Scene  # noqa: E402

NAMES = ("objects", "tcp_pose", "wrench", "step", "episode")


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """Topic to all its messages of an episode, as rclpy has them."""
    import importlib

    episode = Episode.open(write_synthetic_episode(tmp_path_factory.mktemp("bag"), 1, 12, "state"))
    store, out = typestore(), {}
    for name in NAMES:
        msgtype = episode.topics()[episode.topic(name)][0]
        package, _, kind = msgtype.split("/")
        live = getattr(importlib.import_module(f"{package}.msg"), kind)
        out[name] = [
            deserialize_message(bytes(store.serialize_cdr(m, msgtype)), live) for _, m in episode.messages(name)
        ]
    return out


def feed(scene, messages):
    for name in NAMES:
        for message in messages[name]:
            getattr(scene, name)(message)


def by_namespace(markers: MarkerArray) -> dict[str, list[Marker]]:
    out: dict[str, list[Marker]] = {}
    for marker in markers.markers:
        out.setdefault(marker.ns, []).append(marker)
    return out


def test_before_any_message_there_is_the_workspace():
    markers = by_namespace(Scene().markers())
    assert list(markers) == ["workspace"] and len(markers["workspace"][0].points) == 24


def test_an_episode_as_markers(messages):
    scene = Scene({"base"})
    feed(scene, messages)
    markers = by_namespace(scene.markers())
    assert len(markers["objects"]) == 3 and {m.id for m in markers["objects"]} == {0, 1, 2}
    red = messages["objects"][-1].poses[0].position
    assert markers["objects"][0].pose.position == red and markers["objects"][0].color.r > 0.8
    # the wrench's frame is not of the robot here: the arrow starts 21.5 mm below the flange, in the base frame
    (arrow,) = markers["wrist_force"]
    tcp = messages["tcp_pose"][-1].pose.position
    assert arrow.header.frame_id == "base" and (arrow.points[0].x, arrow.points[0].y) == pytest.approx((tcp.x, tcp.y))
    assert arrow.points[0].z == pytest.approx(tcp.z - 0.0215)
    (text,) = markers["rewards"]
    assert "stack_leave" in text.text and text.text.endswith("ended by time_limit")
    assert all(m.color.a > 0 for m in [*markers["objects"], arrow, text])


def test_the_force_is_in_its_own_frame_where_the_robot_has_it(messages):
    scene = Scene({"base", "wrist_ft"})
    scene.wrench(messages["wrench"][0])
    (arrow,) = by_namespace(scene.markers())["wrist_force"]
    assert arrow.header.frame_id == "wrist_ft" and arrow.points[0].x == 0.0
    elsewhere = Scene()
    elsewhere.wrench(messages["wrench"][0])     # neither the frame nor the tool's pose is known
    assert "wrist_force" not in by_namespace(elsewhere.markers())


def test_frames_that_the_robot_does_not_give(messages):
    scene = Scene()
    assert scene.transforms(messages["step"][0].header.stamp) == []
    feed(scene, messages)
    frames = scene.transforms(messages["step"][0].header.stamp)
    assert [t.child_frame_id for t in frames] == ["tcp_measured", "object_red", "object_green", "object_blue"]
    assert all(t.header.frame_id == "base" for t in frames)


def test_the_node(messages):
    domain = Domain()
    env = {**os.environ, "ROS_DOMAIN_ID": str(domain.number), "PYTHONPATH": os.pathsep.join(sys.path)}
    env["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    script = Path(__file__).resolve().parents[1] / "scripts" / "view_markers"
    command = [sys.executable, str(script), "--ros-args", "-r", "__ns:=/cell_1"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain.number)
    node = rclpy.create_node("test", namespace="cell_1", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        publishers = {name: node.create_publisher(type(messages[name][0]), name, 10) for name in NAMES}
        got: list[MarkerArray] = []
        node.create_subscription(MarkerArray, "markers", got.append, 1)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (got and len(by_namespace(got[-1])) == 4):
            for name, publisher in publishers.items():
                publisher.publish(messages[name][-1])
            executor.spin_once(timeout_sec=0.05)
        assert got, "no markers came"
        assert set(by_namespace(got[-1])) == {"workspace", "objects", "wrist_force", "rewards"}
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0, process.stdout.read()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
        domain.release()


def test_a_bad_description_ends_the_node_with_one_line(tmp_path):
    bad = tmp_path / "bad.urdf"
    bad.write_text("no xml")
    script = Path(__file__).resolve().parents[1] / "scripts" / "view_markers"
    done = subprocess.run(
        [sys.executable, str(script), "--ros-args", "-p", f"urdf:={bad}"], capture_output=True, text=True, timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "ROS_DOMAIN_ID": "99"},
    )  # fmt: skip
    assert done.returncode == 2 and "cannot be read" in done.stderr and "Traceback" not in done.stderr
