# SPDX-License-Identifier: Apache-2.0
"""`./chef launch`: by `ros2 launch` where a real ROS 2 has it, else by the built-in supervisor."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

from chef_bringup import domain, guard, loader
from chef_bringup.graph import ArgumentError, Graph
from chef_bringup.logs import Terminal, log_folder
from chef_bringup.setup import ros
from chef_bringup.supervisor import STOP_REQUESTS, Deadlines, Supervisor


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 3600.0:
        raise argparse.ArgumentTypeError(f"{text} is not within 0..3600 s")
    return value


def parser() -> argparse.ArgumentParser:
    """The command's own options; the graph's arguments are checked by the graph."""
    result = argparse.ArgumentParser(
        prog="./chef launch", description="Start a graph and stop it in order on Ctrl-C or when a required node ends."
    )
    result.add_argument("file", metavar="FILE", help="a launch file, as collect.launch.py")
    result.add_argument("arguments", metavar="NAME:=VALUE", nargs="*", help="arguments of the graph")
    result.add_argument("-s", "--show-args", action="store_true", help="show the graph's arguments and stop")
    result.add_argument(
        "--grace", type=_seconds, default=Deadlines.grace_s, metavar="SECONDS",
        help="time for the other nodes to seal the episode after one has failed (default: %(default)s)",
    )  # fmt: skip
    result.add_argument(
        "--with", dest="starter", choices=("auto", "supervisor", "ros2"), default="auto",
        help="who starts the nodes; auto: ros2 launch where a real ROS 2 is sourced (default: %(default)s)",
    )  # fmt: skip
    return result


def parse(words: list[str]) -> tuple[argparse.Namespace, Path, Graph, dict[str, str]]:
    """Options, launch file, graph and checked arguments; raises ArgumentError."""
    options = parser().parse_intermixed_args(words)
    path = loader.find(options.file)
    graph = loader.load(path)
    values = graph.defaults() if options.show_args else graph.parse(options.arguments)
    return options, path, graph, values


def main(words: list[str]) -> int:
    """Run the command; returns the exit status."""
    options, path, graph, values = parse(words)
    if options.show_args:
        print(graph.manual())
        return 0
    graph.check(values)
    env = dict(os.environ)
    added, held = domain.variables(env, graph.simulated(values))
    env.update(added)
    deadlines = Deadlines(grace_s=options.grace)
    try:
        if options.starter == "ros2" or (options.starter == "auto" and ros.has_launch()):
            return _ros2_launch(path, options.arguments, env, deadlines)
        return _supervise(graph, values, env, added, deadlines)
    finally:
        if held is not None:
            held.release()


def _supervise(
    graph: Graph, values: dict[str, str], env: dict[str, str], added: dict[str, str], deadlines: Deadlines
) -> int:
    start = time.monotonic()
    output = Path(graph.output(values))
    logs = log_folder(output)
    terminal = Terminal()
    try:
        specs = graph.build(values)
        terminal.say(f"{graph.name}: {len(specs)} nodes; output in {output}, logs in {logs}")
        if "ROS_DOMAIN_ID" in added:
            terminal.say(f"ROS_DOMAIN_ID={added['ROS_DOMAIN_ID']} (a free one; set it yourself to choose)")
        code = Supervisor(specs, logs, env, deadlines, terminal).run()
        if code == 0:
            terminal.say(f"{graph.name} ended well after {time.monotonic() - start:.0f} s")
        else:
            terminal.say(f"{graph.name} ended with status {code}; logs in {logs}")
        return code
    finally:
        terminal.close()


def _ros2_launch(path: Path, arguments: list[str], env: dict[str, str], deadlines: Deadlines) -> int:
    """Run `ros2 launch` and see that nothing of it stays behind.

    Every request to stop reaches it as SIGINT, as it leaves its nodes running on any other signal; what it
    leaves all the same, or when we are killed, is ended by the guard's mark.
    """
    command = shutil.which("ros2", path=env.get("PATH"))
    if command is None:
        raise ArgumentError("ros2 is not installed here; use --with supervisor")
    mark = uuid.uuid4().hex
    watcher = guard.start(mark, deadlines.interrupt_s, deadlines.terminate_s)
    words = [command, "launch", str(path), *arguments]
    # In a session of its own: a terminal's Ctrl-C reaches it once, from here, and not its nodes besides.
    launch = subprocess.Popen(words, env={**env, **guard.mark_variables(mark)}, start_new_session=True)
    requests: list[int] = []

    def forward(number: int, _frame: object) -> None:
        requests.append(number)
        launch.send_signal(signal.SIGINT if len(requests) < 3 else signal.SIGKILL)

    previous = {number: signal.signal(number, forward) for number in STOP_REQUESTS}
    try:
        code = launch.wait()
    finally:
        guard.sweep(mark, ((signal.SIGINT, 1.0), (signal.SIGTERM, 1.0), (signal.SIGKILL, deadlines.kill_s)))
        watcher.communicate(b"done")
        for number, handler in previous.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
