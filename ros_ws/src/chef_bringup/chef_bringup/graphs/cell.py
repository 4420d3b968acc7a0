# SPDX-License-Identifier: Apache-2.0
"""What a cell's devices are in a graph: a simulated world, hardware, or fakes of the hardware."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chef_bringup import paths
from chef_bringup.graph import ArgumentError


def load(values: Mapping[str, str]):
    """The `chef_task.cell.CellConfig` of argument `cell`; raises ArgumentError, one line with the file."""
    try:
        return importlib.import_module("chef_task.cell").CellConfig.load(paths.resolve(values["cell"]))
    except ValueError as error:
        raise ArgumentError(f"cell: {error}") from None


def check(values: Mapping[str, str]) -> None:
    """What a cell does not allow; raises ArgumentError."""
    cell = load(values)
    if not cell.real:
        if values["fake_devices"] == "true":
            raise ArgumentError("fake_devices: a simulated cell has no devices that could be fakes")
        return
    if values["speed"] != "1":
        raise ArgumentError("speed: a real cell's time cannot be simulated, only speed:=1 is possible")
    if values["observation"] == "pixels":
        known = importlib.import_module("chef_task.spaces").CAMERAS
        if missing := [name for name in known if name not in cell.devices["cameras"]]:
            raise ArgumentError(f"cell: devices.cameras.{missing[0]} is missing; observation:=state needs no cameras")
    fake = values["fake_devices"] == "true"
    checks = importlib.import_module("chef_control.cell_check")
    problems = itertools.chain(checks.problems(cell, fake), checks.calibration_problems(cell, fake))
    if first := next(problems, ""):
        raise ArgumentError(f"cell: {paths.resolve(values['cell'])}: {first} (./chef doctor checks all of it)")


@dataclass(frozen=True)
class Hardware:
    """What the graph needs for the cell's devices.

    Attributes:
        cell_config: the file that the nodes read.
        world: whether a simulated world is there, as the cell itself or behind the fakes.
        fakes: name of a node to the words that start it.
        env: by the driver's node, what its process needs to find its fake.
        physics: as the bag's metadata names it.
        tracked: cameras whose pictures the tracker needs, whatever the policy sees.
    """

    cell_config: Path
    world: bool
    physics: str
    fakes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    env: dict[str, dict[str, str]] = field(default_factory=dict)
    tracked: tuple[str, ...] = ()


def is_simulated(values: Mapping[str, str]) -> bool:
    """Whether no hardware is in the graph."""
    return values["fake_devices"] == "true" or not load(values).real


def physics(values: Mapping[str, str]) -> str:
    """Of the simulated world. Behind fakes it is there to be moved and seen, and shares the processor with all of them."""
    if values["physics"] != "auto":
        return values["physics"]
    return "fast" if values["fake_devices"] == "true" else "exact"


def hardware(values: Mapping[str, str], folder: Path, world_socket: str) -> Hardware:
    """Of checked arguments.

    Args:
        folder: private and for as long as the graph lives: for the ports of fakes, and the config that leads to them.
    """
    cell, path = load(values), paths.resolve(values["cell"])
    if not cell.real:
        return Hardware(path, True, physics(values))
    if values["fake_devices"] != "true":
        return Hardware(path, False, "real", tracked=_tracked(cell))
    try:
        plan = importlib.import_module("chef_control.fakes.plan").plan(path, folder, world_socket)
    except ValueError as error:
        raise ArgumentError(f"cell: {error}") from None
    return Hardware(plan.config, True, f"fake devices, {physics(values)}", plan.processes, plan.environments, _tracked(cell))


def _tracked(cell) -> tuple[str, ...]:
    tracker = importlib.import_module("chef_control.devices").device_class(cell, "tracker")
    return tuple(cell.devices["cameras"]) if getattr(tracker, "PICTURES", False) else ()

