# SPDX-License-Identifier: Apache-2.0
"""The same graph for `ros2 launch`. Imported only where `launch` and `launch_ros` exist."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from chef_bringup.domain import middleware
from chef_bringup.graph import Graph, NodeSpec


class GraphFailed(RuntimeError):
    """Raised out of an event handler: the only way to make `ros2 launch` end with a status that is not 0."""


def launch_description(graph: Graph) -> LaunchDescription:
    """Declared arguments and, once they are known, the nodes."""
    arguments = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            # Choices are checked with all else in Graph.validate; here they are shown by --show-args.
            choices=list(argument.choices) if argument.choices else None,
        )
        for argument in graph.arguments
    ]

    def start(context):
        values = graph.validate({each.name: context.launch_configurations[each.name] for each in graph.arguments})
        graph.check(values)
        setup = [SetEnvironmentVariable(*each) for each in middleware(os.environ, graph.simulated(values)).items()]
        return setup + graph_actions(graph.build(values))

    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def graph_actions(specs: Iterable[NodeSpec]) -> list:
    """All nodes and what their ends mean."""
    told: list[Node] = []
    actions = []
    for spec in specs:
        made = node_actions(spec, told)
        if spec.told_of_loss:
            told.append(made[-1])
        actions += made
    return actions


def tell_of_loss(nodes: Iterable[Node]) -> None:
    """Sends SIGUSR1 to those that run, as the built-in supervisor does."""
    for node in nodes:
        if node.process_details is not None and node.return_code is None:
            with suppress(KeyError, ProcessLookupError):
                os.kill(node.process_details["pid"], signal.SIGUSR1)


def node_actions(spec: NodeSpec, told: Iterable[Node] = ()) -> list:
    """A node, the last one of the list, and what its end means; `told` are those that hear of its loss."""
    # Typed, as launch_ros would otherwise read strings as YAML: an output folder named 1 is not an integer.
    parameters = {name: ParameterValue(value, value_type=type(value)) for name, value in spec.parameters.items()}
    node = Node(
        package=spec.package,
        executable=spec.executable,
        name=spec.name,
        namespace=f"/{spec.namespace}",
        exec_name=spec.name,
        parameters=[parameters] if parameters else None,
        remappings=list(spec.remap.items()),
        arguments=[*spec.arguments, "--ros-args", "--log-level", spec.log_level],
        prefix=f"nice -n {spec.nice}" if spec.nice else None,
        additional_env={**spec.env, "PYTHONUNBUFFERED": "1"},
        respawn=spec.respawn and not spec.required,
        respawn_delay=spec.respawn_delay_s,
        respawn_max_retries=spec.respawn_limit,
        sigterm_timeout="8",
        sigkill_timeout="3",
        output="both",
    )

    def on_exit(event, context):
        if context.is_shutdown:
            return None
        if spec.ends_graph and event.returncode == 0:
            return [LogInfo(msg=f"node '{spec.name}' is done"), Shutdown(reason=f"'{spec.name}' is done")]
        tell_of_loss(told)
        raise GraphFailed(f"required node '{spec.name}' ended with {event.returncode}")

    if not (spec.required or spec.ends_graph):
        return [node]
    return [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=on_exit)), node]
