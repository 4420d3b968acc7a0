# SPDX-License-Identifier: Apache-2.0
"""`./chef`: the commands, and the step into the environment in which they run."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chef_bringup import paths
from chef_bringup.graph import ArgumentError, did_you_mean
from chef_bringup.setup import SetupError, ensure

# Set in the environment of the second start, to the checkout it was set up for.
_INSIDE = "CHEF_INSIDE"
_HELP = ("-h", "--help")


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        summary: for the list.
        target: `module:function`, imported inside the environment; gets the words after the command.
    """

    summary: str
    target: str


COMMANDS = {
    "launch": Command("start a graph: ./chef launch collect.launch.py episodes:=4 output:=runs/first", "chef_bringup.launching:main"),
    "new-cell": Command("write the config of a cell of your own from a template", "chef_bringup.new_cell:main"),
    "doctor": Command("check a cell's devices, rates, ages, calibration, limits and disk", "chef_control.doctor.cli:main"),
    "bags": Command("list, show, check, recover, relabel, convert and export episodes", "chef_task.bag.cli:main"),
    "view": Command("look at a run or an episode", "chef_bringup.view:main"),
    "train": Command("train from bags, without a cell", "chef_learning.train:main"),
    "simulate": Command("fill a run with simulated episodes, by the thousand", "chef_bringup.simulating:main"),
    "fleet": Command("shared storage of several cells, and their learner", "chef_learning.fleet_cli:main"),
    "run": Command("all stages of an experiment: collect, explore, execute, finetune", "chef_bringup.simulating:run"),
    "stage": Command("one stage of an experiment", "chef_bringup.simulating:stage"),
    "status": Command("how far an experiment is", "chef_learning.experiment.cli:status"),
    "report": Command("the report of an experiment", "chef_bringup.simulating:report"),
    "schedule": Command("which task acted when, and what the scheduler has learned", "chef_learning.schedule_view:main"),
    "calibrate": Command("cameras, their places, the workspace and the tracker's colours", "chef_control.calibration.cli:main"),
    "bench": Command("run a benchmark of benchmarks/", "chef_bringup.bench:main"),
    "test": Command("build, run all tests and count them", "chef_bringup.testing:main"),
    "setup": Command("install and build what is missing, and nothing else", "chef_bringup.cli:setup"),
    "env": Command("print the line that brings your shell into the environment", "chef_bringup.cli:show_environment"),
}  # fmt: skip


def usage() -> str:
    """The list that a plain `./chef` shows."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        ["usage: ./chef <command> [arguments]", "", "commands:", *rows, "", "./chef <command> --help says more."]
    )


def main(words: Sequence[str]) -> int:
    """Run a command; returns the exit status (2: it was asked for wrongly or could not be set up)."""
    if not words or words[0] in (*_HELP, "help"):
        print(usage())
        return 0
    name, rest = words[0], list(words[1:])
    if name not in COMMANDS:
        print(f"chef: there is no command {name!r}{did_you_mean(name, COMMANDS)}", file=sys.stderr)
        return 2
    root = paths.checkout()
    if root is None:
        print("chef: this is no checkout; use `ros2 launch` and the packages' own commands", file=sys.stderr)
        return 2
    try:
        if os.environ.get(_INSIDE) != str(root) and not _only_reads(name, rest):
            _check_early(name, rest)
            _enter(root, [name, *rest])
        return _call(COMMANDS[name].target, rest)
    except (SetupError, ArgumentError) as error:
        print(f"chef: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _only_reads(name: str, rest: list[str]) -> bool:
    """Whether it asks about our own commands or only writes a file, which needs nothing installed."""
    if name == "bench":
        return not rest or rest[0] in _HELP
    if name == "new-cell":
        return True
    manual = ("-s", "--show-args") if name == "launch" else ()
    return name in ("launch", "test", "setup") and any(word in _HELP + manual for word in rest)


def _check_early(name: str, rest: list[str]) -> None:
    """A wrong word should not cost minutes of set-up before it is found."""
    if name == "launch":
        from chef_bringup import launching

        launching.parse(rest)


def _enter(root: Path, words: list[str]) -> None:
    """Set up, then replace this process by the same command inside the environment."""
    from chef_bringup.setup import environment

    variables = {**ensure(root), _INSIDE: str(root)}
    interpreter = str(environment.python(root))
    sys.stdout.flush()
    os.execve(interpreter, [interpreter, str(root / "chef"), *words], variables)


def _call(target: str, rest: list[str]) -> int:
    module_name, _, function_name = target.partition(":")
    try:
        function: Callable[[list[str]], int | None] = getattr(importlib.import_module(module_name), function_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.startswith(error.name):
            raise SetupError(f"{module_name} is not part of this checkout") from None
        raise
    return function(rest) or 0


def setup(words: list[str]) -> int:
    """`./chef setup`: by the time this runs it is done."""
    if words:
        print("usage: ./chef setup\n\nInstalls and builds what is missing. Takes no arguments.")
        return 0 if words[0] in _HELP else 2
    print("chef: everything is in place")
    return 0


def show_environment(words: list[str]) -> int:
    """`./chef env`: what to source."""
    from chef_bringup.setup import environment, workspace

    root = paths.checkout()
    if words or root is None:
        print('usage: eval "$(./chef env)"\n\nPrints the line that brings a shell into the environment.')
        return 0 if words and words[0] in _HELP else 2
    print(f"source {environment.folder(root)}/bin/activate; source {workspace.folder(root)}/install/setup.bash")
    return 0
