# SPDX-License-Identifier: Apache-2.0
"""`./chef view` and the view graph, without ROS: what is drawn, what is written, what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

# The whole workspace may not be installed when this package is tested from its sources.
sys.path[:0] = [str(Path(__file__).resolve().parents[2] / name) for name in ("chef_task", "chef_control", "chef_sim")]

from chef_task import geometry  # noqa: E402
from chef_task.bag.synthetic import write_synthetic_episode  # noqa: E402
from chef_task.limits import Limits  # noqa: E402
from chef_task.spaces import CAMERAS, JOINTS  # noqa: E402

from chef_bringup import domain, loader, paths, view, view_programs, view_robot, view_scene  # noqa: E402
from chef_bringup.graph import ArgumentError  # noqa: E402
from chef_bringup.graphs.view import graph  # noqa: E402


def toy_urdf() -> str:
    """A chain of seven joints with the names of the arm's."""
    links = ["base", *(f"l{i}" for i in range(7)), "tcp", "wrist_ft"]
    shape = '<visual><geometry><box size="0.05 0.05 0.1"/></geometry></visual>'
    text = "".join(f'<link name="{name}">{shape}</link>' for name in links)
    limit = '<limit lower="-1" upper="1" effort="1" velocity="1"/>'
    for i, name in enumerate(JOINTS):
        ends = f'<parent link="{links[i]}"/><child link="{links[i + 1]}"/><origin xyz="0 0 0.15"/>'
        text += f'<joint name="{name}" type="revolute">{ends}<axis xyz="0 {i % 2} {1 - i % 2}"/>{limit}</joint>'
    for name in links[8:]:
        text += f'<joint name="to_{name}" type="fixed"><parent link="l6"/><child link="{name}"/></joint>'
    return f'<robot name="toy">{text}</robot>'


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a pixel episode and a newer state episode, and a robot."""
    folder = tmp_path_factory.mktemp("run")
    write_synthetic_episode(folder / "episodes", 1, 10, "pixels")
    write_synthetic_episode(folder / "episodes", 2, 10, "state")
    (folder / "toy.urdf").write_text(toy_urdf())
    return folder


def bags(run):
    return sorted((run / "episodes").iterdir())


def entities(path: Path) -> dict[str, int]:
    """Entity path to number of rows in a recording."""
    from rerun.chunk import RrdReader

    rows: dict[str, int] = {}
    for chunk in RrdReader(path).stream().to_chunks():
        rows[str(chunk.entity_path)] = rows.get(str(chunk.entity_path), 0) + chunk.num_rows
    return rows


def test_a_pixel_episode_with_the_robot(run, tmp_path, capsys):
    pytest.importorskip("rerun")
    out = tmp_path / "a.rrd"
    assert view.main([str(bags(run)[0]), "--save", str(out), "--urdf", str(run / "toy.urdf")]) == 0
    assert str(out) in capsys.readouterr().out
    rows = entities(out)
    for camera in CAMERAS:
        assert rows[f"/cameras/{camera}"] >= 11
    for name in JOINTS:
        assert rows[f"/tf/{name}"] > 50             # native rate, not that of the steps
    assert rows["/rewards/stack_leave"] >= 11 and rows["/now"] == 11 and rows["/scene/wrist_force"] > 50
    for name in ("/scene/workspace", "/scene/red", "/tf/object_blue", "/tf/tcp_measured", "/episode"):
        assert name in rows


def test_encoded_images_are_shown_alike(run, tmp_path):
    pytest.importorskip("rerun")
    bag = write_synthetic_episode(tmp_path, 1, 10, "pixels", image_codec="jpeg:95")
    out = tmp_path / "a.rrd"
    assert view.main([str(bag), "--save", str(out), "--urdf", str(run / "toy.urdf")]) == 0
    rows = entities(out)
    assert all(rows[f"/cameras/{camera}"] >= 11 for camera in CAMERAS)


def test_a_run_shows_its_newest_episode(run, tmp_path, capsys):
    pytest.importorskip("rerun")
    out = tmp_path / "b.rrd"
    assert view.main([str(run), "--save", str(out), "--urdf", str(run / "toy.urdf")]) == 0
    assert not any("cameras" in name for name in entities(out))


@pytest.mark.parametrize("words, part", [
    (["/no/such/bag", "--save", "TMP/x.rrd"], "no such bag"),
    (["RUN", "--save", "/no/such/folder/x.rrd"], "no folder"),
    (["RUN", "--save", "TMP/x.rrd", "--urdf", "/no/such.urdf"], "no file"),
    (["TMP", "--save", "TMP/x.rrd"], "no episodes"),
    (["RUN"], "--save"),
    (["--save"], "--help"),
])  # fmt: skip
def test_what_cannot_be_is_one_clear_line(run, tmp_path, words, part, capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if len(words) == 1 and sys.platform != "linux":
        pytest.skip("only Linux tells whether there is a display")
    words = [w.replace("RUN", str(run)).replace("TMP", str(tmp_path)) for w in words]
    assert view.main(words) == 2
    out, err = capsys.readouterr()
    assert part in err and err.count("\n") == 1 and err.startswith("chef view: ") and out == ""


def test_a_file_that_is_no_robot(run, tmp_path, capsys):
    pytest.importorskip("rerun")
    bad = tmp_path / "bad.urdf"
    bad.write_text("<robot")
    assert view.main([str(run), "--save", str(tmp_path / "x.rrd"), "--urdf", str(bad)]) == 2
    assert "not a robot's description" in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="cannot be read"):
        view_robot.links(bad)


def test_links(run):
    assert {"base", "tcp", "wrist_ft", "l0"} <= view_robot.links(run / "toy.urdf")


# ---- the shapes


def test_the_force_arrow_turns_with_the_wrist_and_reddens_at_the_limit():
    down = np.array([0.6, 0.0, 0.2, 0.0, 1.0, 0.0, 0.0])
    arrow = view_scene.force_arrow([0.0, 0.0, 10.0], down, 20.0)
    np.testing.assert_allclose(arrow.end - arrow.start, [0, 0, -view_scene.ARROW_AT_LIMIT_M / 2], atol=1e-12)
    assert arrow.rgba == view_scene.FORCE_COLOUR
    assert view_scene.force_arrow([20.0, 0, 0], geometry.IDENTITY_POSE, 20.0).rgba == view_scene.OVER_LIMIT_COLOUR


def test_workspace_edges_are_the_edges_of_the_box():
    limits = Limits()
    edges = view_scene.workspace_edges(limits).reshape(12, 2, 3)
    lengths = np.abs(edges[:, 1] - edges[:, 0])
    assert sorted(np.count_nonzero(lengths > 1e-9, axis=1)) == [1] * 12
    np.testing.assert_allclose(lengths.sum(0), 4 * np.array(limits.workspace_size_m))
    np.testing.assert_allclose(edges.reshape(-1, 3).mean(0), limits.workspace_centre_m)


def test_limits_of_a_bag_or_the_defaults():
    assert view_scene.limits_of({"limits": {"force_n": 7.0}}).force_n == 7.0
    for bad in ({}, {"limits": None}, {"limits": {"x": 1}}, {"limits": {"force_n": "a"}}, {"limits": {"force_n": -1}}):
        assert view_scene.limits_of(bad) == Limits()


def test_the_acting_task_is_marked():
    assert view_scene.reward_lines(["open", "lift"], [0.5, 1.0], 1) == ["  open 0.50", "> lift 1.00"]


# ---- the graph for rviz


@pytest.fixture
def ros(tmp_path, monkeypatch):
    """A prefix where rviz2 and robot_state_publisher seem installed."""
    for name in ("rviz2", "robot_state_publisher"):
        program = tmp_path / "prefix" / "lib" / name / name
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))


def built(**given):
    values = graph.validate(given)
    graph.check(values)
    return {spec.name: spec for spec in graph.build(values)}


def test_the_launch_file_holds_the_graph():
    assert loader.load(paths.share() / "launch" / "view.launch.py") is graph
    assert all(argument.description for argument in graph.arguments)


def test_without_rviz_it_points_to_chef_view(monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/nowhere")
    with pytest.raises(ArgumentError, match=r"^rviz2 and robot_state_publisher: not installed here; use \./chef view"):
        graph.check(graph.defaults())


def test_live(ros, run, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "17")
    nodes = built(urdf=str(run / "toy.urdf"), namespace="cell_3")
    assert list(nodes) == ["robot_state_publisher", "view_markers", "rviz"]
    assert nodes["rviz"].ends_graph and all(n.namespace == "cell_3" for n in nodes.values())
    assert all(n.env["ROS_DOMAIN_ID"] == "17" for n in nodes.values())
    assert nodes["robot_state_publisher"].parameters["robot_description"] == toy_urdf()
    assert not nodes["rviz"].parameters["use_sim_time"]
    assert built(urdf=str(run / "toy.urdf"), domain="5")["rviz"].env["ROS_DOMAIN_ID"] == "5"


def test_a_bag_plays_apart_from_any_cell_and_without_commands(ros, run, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "17")
    # 17 would be the first to be taken: no cell of this machine is there, but one of another may be
    monkeypatch.setattr("random.sample", lambda of, count: sorted(of, key=lambda number: number != 17))
    monkeypatch.setattr("chef_bringup.graphs.view._own_domain", domain.Domain)
    bag = bags(run)[0]
    nodes = built(bag=str(bag), urdf=str(run / "toy.urdf"))
    assert all(n.env["ROS_DOMAIN_ID"] != "17" and n.parameters["use_sim_time"] for n in nodes.values())
    assert all(n.env["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST" for n in nodes.values())
    assert nodes["bag"].env["CHEF_VIEW_BAG"] == str(bag) and not nodes["bag"].required
    command = view_programs.bag_command(str(bag), "cell_1")
    assert command[:4] == ["ros2", "bag", "play", str(bag)] and "/cell_1/wrench" in command
    assert not any("command" in word or word.endswith("action") for word in command)
    # images may be stored encoded: both are played, and decoded here alone, not beside a cell
    for camera in CAMERAS:
        assert {f"/cell_1/{camera}/image", f"/cell_1/{camera}/image/compressed"} <= set(command)
    assert nodes["view_images"].executable == "view_images" and "view_images" not in built(urdf=str(run / "toy.urdf"))


@pytest.mark.parametrize("given, part", [
    ({"bag": "/no/such/bag"}, "bag: /no/such/bag: no such bag"),
    ({"urdf": "/no/such.urdf"}, "urdf: there is no file"),
])  # fmt: skip
def test_wrong_arguments(ros, given, part):
    with pytest.raises(ArgumentError, match=part):
        graph.check(graph.validate(given))


@pytest.mark.parametrize("given", [{"domain": "102"}, {"domain": "x"}, {"namespace": "1x"}, {"use_sim_time": "maybe"}])
def test_wrong_values(given):
    with pytest.raises(ArgumentError):
        graph.validate(given)


def test_the_rviz_configuration_names_our_topics():
    """rviz itself is not tried: at least the file is YAML with relative topics that exist."""
    config = yaml.safe_load((paths.share() / "config" / "chef.rviz").read_text())
    displays = config["Visualization Manager"]["Displays"]
    topics = [d[k]["Value"] for d in displays for k in ("Topic", "Description Topic") if k in d]
    assert set(topics) == {"robot_description", "markers", *(f"{c}/image" for c in CAMERAS)}
    assert config["Visualization Manager"]["Global Options"]["Fixed Frame"] == view_scene.BASE_FRAME
    assert view_programs.rviz_command(["--x"])[:2] == ["rviz2", "-d"]
    assert Path(view_programs.rviz_command([])[2]).is_file()


def test_the_programs_say_what_is_missing(tmp_path):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PATH": "/nowhere", "CHEF_VIEW_BAG": str(tmp_path)}
    scripts = Path(__file__).resolve().parents[1] / "scripts"
    for name, part in (("view_rviz", "rviz2 is not installed"), ("view_bag", "not a bag")):
        done = subprocess.run([sys.executable, scripts / name], env=env, capture_output=True, text=True, timeout=30)
        assert done.returncode == 2 and part in done.stderr and done.stderr.count("\n") == 1
