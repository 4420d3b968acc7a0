# SPDX-License-Identifier: Apache-2.0
"""The view graph: a cell in rviz, live or from a bag."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from chef_bringup import domain, paths, view_robot
from chef_bringup.graph import Argument, ArgumentError, Graph, NodeSpec, integer, pattern
from chef_bringup.process import find_executable

# Tells the executable `view_bag` what to play: an absolute path.
BAG_VARIABLE = "CHEF_VIEW_BAG"
_NAME = r"[A-Za-z][A-Za-z0-9_]*"


def _domain(value: str) -> None:
    if value:
        integer(0, 101)(value)


ARGUMENTS = (
    Argument("bag", "", "an episode to play; empty: look at a cell that runs now"),
    Argument("namespace", "cell_1", "ROS namespace of the cell; with a bag it is that of the bag",
             check=pattern(f"{_NAME}(/{_NAME})*", "a ROS namespace")),
    Argument("domain", "", "ROS_DOMAIN_ID of the running cell; empty: this shell's, else 0", check=_domain),
    Argument("urdf", "", "the robot's description; empty: the simulated cell's"),
    Argument("use_sim_time", "false", "the running cell is in lockstep; a bag always brings its own time",
             choices=("true", "false")),
    Argument("log_level", "info", "of all nodes", choices=("debug", "info", "warn", "error", "fatal")),
)  # fmt: skip


def _missing() -> list[str]:
    """What this graph needs of a real ROS 2 and does not find."""
    missing = []
    for package in ("rviz2", "robot_state_publisher"):
        try:
            find_executable(package, package, os.environ)
        except ArgumentError:
            missing.append(package)
    return missing


def _summary(bag: str):
    # not at the top: launch arguments are checked before the environment with rosbags is entered
    from chef_task.bag import BagError, read_summary

    try:
        return read_summary(paths.resolve(bag))
    except BagError as error:
        raise ArgumentError(f"bag: {error}") from None


def check(values: Mapping[str, str]) -> None:
    """What must hold before anything starts; raises ArgumentError."""
    missing = _missing()
    if missing:
        instead = "use ./chef view EPISODE, which needs no ROS 2"
        raise ArgumentError(f"{' and '.join(missing)}: not installed here; {instead}")
    if values["bag"]:
        _summary(values["bag"])
    if view_robot.find_urdf(values["urdf"]) is None:
        raise ArgumentError("urdf: no description of the robot was found, give urdf:=FILE")


@functools.cache
def _own_domain(avoid: str) -> domain.Domain:
    return domain.Domain(avoid)


def _environment(values: Mapping[str, str]) -> dict[str, str]:
    """Where the nodes talk: with the running cell, or alone."""
    if values["bag"]:
        # Its clock and its sensors must not reach a cell that runs, whose safety gate would believe them.
        own = _own_domain(os.environ.get("ROS_DOMAIN_ID", ""))
        alone = {"ROS_DOMAIN_ID": str(own.number), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        return domain.middleware(os.environ, simulated=True) | alone
    return {"ROS_DOMAIN_ID": values["domain"] or os.environ.get("ROS_DOMAIN_ID") or "0"}


def build(values: Mapping[str, str]) -> list[NodeSpec]:
    """The nodes, in the order in which they start."""
    urdf = view_robot.find_urdf(values["urdf"])
    assert urdf is not None, "checked before"
    namespace = _summary(values["bag"]).cell if values["bag"] else values["namespace"]
    common = {"use_sim_time": bool(values["bag"]) or values["use_sim_time"] == "true"}
    env = _environment(values)

    def node(name: str, package: str, executable: str, parameters=None, **kwargs) -> NodeSpec:
        return NodeSpec(
            name=name, package=package, executable=executable, namespace=namespace,
            parameters={**common, **(parameters or {})}, env={**env, **kwargs.pop("env", {})},
            log_level=values["log_level"], **kwargs,
        )  # fmt: skip

    description = {"robot_description": urdf.read_text()}
    nodes = [
        node("robot_state_publisher", "robot_state_publisher", "robot_state_publisher", description),
        node("view_markers", "chef_bringup", "view_markers", {"urdf": str(urdf)}),
        node("rviz", "chef_bringup", "view_rviz", ends_graph=True),
    ]
    if values["bag"]:
        # rviz shows images; a bag that has them encoded needs them decoded
        nodes.append(node("view_images", "chef_bringup", "view_images"))
        bag = {BAG_VARIABLE: str(paths.resolve(values["bag"]))}
        nodes.append(node("bag", "chef_bringup", "view_bag", required=False, env=bag))
    return nodes


def output(values: Mapping[str, str]) -> str:
    """Where the logs go: the run of the bag is not written to."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return str(base / "chef" / "view")


graph = Graph(
    name="view",
    description="look at a cell in rviz, live or from a bag (needs a real ROS 2; ./chef view does not)",
    arguments=ARGUMENTS,
    check=check,
    build=build,
    output=output,
    simulated=lambda values: False,
)
