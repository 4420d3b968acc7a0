# SPDX-License-Identifier: Apache-2.0
"""The description of a node graph, read alike by `ros2 launch` and by the built-in supervisor.

A graph module in `chef_bringup.graphs` holds one `Graph`; the launch file of the same name exports it.
Plain data: nothing here starts anything, and nothing needs ROS.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

ParameterValue = bool | int | float | str


class ArgumentError(ValueError):
    """An argument or the machine does not allow the graph to start; the message is one clear line."""


@dataclass(frozen=True)
class Argument:
    """One launch argument, always a string on the way in.

    Attributes:
        name: as in `name:=value`.
        default: what holds when it is not given.
        description: for `--show-args`, with the unit.
        choices: the values allowed; None: any.
        check: raises ValueError with the reason when a value cannot be; None: no further check.
    """

    name: str
    default: str
    description: str
    choices: tuple[str, ...] | None = None
    check: Callable[[str], object] | None = None

    def validate(self, value: str) -> str:
        """Return `value`, or raise ArgumentError."""
        if self.choices is not None and value not in self.choices:
            raise ArgumentError(f"{self.name}: {show(value)} is none of {', '.join(self.choices)}")
        if "\0" in value:
            raise ArgumentError(f"{self.name}: {show(value)} holds a NUL character")
        if self.check is not None:
            try:
                self.check(value)
            except ValueError as error:
                raise ArgumentError(f"{self.name}: {show(value)} {error}") from None
        return value


@dataclass(frozen=True)
class NodeSpec:
    """One node, a process of its own.

    Attributes:
        name: the node's name in the graph.
        package: holds the executable, in `lib/<package>/`.
        executable: its file name.
        namespace: without the leading slash.
        parameters: ROS parameters; the type of the value is the type of the parameter.
        remap: topic to the name that this node is to know it by.
        arguments: words for the executable, before those of ROS.
        required: the graph ends with a failure when this node ends.
        ends_graph: the graph ends well when this node exits with 0; implies `required`.
        respawn: start it again after a failure (never of a required node).
        respawn_limit: how often.
        respawn_delay_s: the wait before the first time; doubles each time.
        env: environment variables on top of the caller's.
        stops_first: gets SIGINT before the others, and time to bring them to rest.
        told_of_loss: gets SIGUSR1 the moment a required node has failed, before anything else is done.
        nice: added to the scheduling niceness; higher gives way to others.
    """

    name: str
    package: str
    executable: str
    namespace: str
    parameters: dict[str, ParameterValue] = field(default_factory=dict)
    remap: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    required: bool = True
    ends_graph: bool = False
    respawn: bool = False
    respawn_limit: int = 5
    respawn_delay_s: float = 2.0
    stops_first: bool = False
    told_of_loss: bool = False
    env: dict[str, str] = field(default_factory=dict)
    nice: int = 0
    log_level: str = "info"


@dataclass(frozen=True)
class Graph:
    """A graph with its arguments.

    Attributes:
        name: of the launch file, without `.launch.py`.
        description: one line.
        arguments: in the order of the manual.
        check: raises ArgumentError when the graph cannot start on this machine; has no side effects but
            making the output folder.
        build: makes the nodes from checked arguments.
        output: the absolute folder that the run writes to; logs go to `logs/` in it.
        simulated: whether no real hardware is in it, by the checked arguments; such graphs keep to this machine.
    """

    name: str
    description: str
    arguments: tuple[Argument, ...]
    check: Callable[[Mapping[str, str]], None]
    build: Callable[[Mapping[str, str]], list[NodeSpec]]
    output: Callable[[Mapping[str, str]], str]
    simulated: Callable[[Mapping[str, str]], bool] = lambda values: True

    def defaults(self) -> dict[str, str]:
        """The default of every argument."""
        return {argument.name: argument.default for argument in self.arguments}

    def validate(self, given: Mapping[str, str]) -> dict[str, str]:
        """All arguments, those given checked and the others by default; raises ArgumentError."""
        by_name = {argument.name: argument for argument in self.arguments}
        for name in given:
            if name not in by_name:
                raise ArgumentError(f"{self.name} has no argument {show(name)}{did_you_mean(name, by_name)}")
        return {name: argument.validate(given.get(name, argument.default)) for name, argument in by_name.items()}

    def parse(self, words: Iterable[str]) -> dict[str, str]:
        """All arguments from `name:=value` words; raises ArgumentError."""
        given: dict[str, str] = {}
        for word in words:
            name, separator, value = word.partition(":=")
            if not separator:
                raise ArgumentError(f"{show(word)} is not of the form name:=value")
            if name in given:
                raise ArgumentError(f"{show(name)} is given twice")
            given[name] = value
        return self.validate(given)

    def manual(self) -> str:
        """The text of `--show-args`."""
        lines = [f"{self.name}: {self.description}", "", "Arguments (pass as name:=value):"]
        for argument in self.arguments:
            lines += ["", f"    {argument.name} (default: {argument.default or 'empty'})"]
            if argument.choices is not None:
                lines.append(f"        one of: {', '.join(argument.choices)}")
            lines.append(f"        {argument.description}")
        return "\n".join(lines)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where something close is known, else all that is known."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(known)}"


def integer(low: int, high: int) -> Callable[[str], int]:
    """A check for a whole number in [low, high]."""

    def check(value: str) -> int:
        # int() would also take '1_0', ' 7' and digits of other scripts.
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise ValueError("is not a whole number")
        if not low <= int(value) <= high:
            raise ValueError(f"is not within {low}..{high}")
        return int(value)

    return check


def pattern(expression: str, what: str) -> Callable[[str], str]:
    """A check against a regular expression; `what` says in words what is wanted."""
    compiled = re.compile(expression, re.ASCII)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"is not {what}")
        return value

    return check


def show(value: str) -> str:
    """A value within one line of a message, whatever is in it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:60] + "...'"
