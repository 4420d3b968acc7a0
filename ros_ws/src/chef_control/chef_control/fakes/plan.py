# SPDX-License-Identifier: Apache-2.0
"""A real cell without its hardware: which fakes to start, and a config that leads the drivers to them. No ROS.

The fakes of one cell share one simulated world: what the fake arm moves is what the fake gripper, force sensor, cameras
and tracker see.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from chef_control import devices
from chef_task import yaml_file
from chef_task.cell import CellConfig
from chef_task.spaces import CAMERAS
from chef_task.yaml_file import short

# s, of limits at least: fakes share the processor with all else, as the devices in config/cells/sim.yaml do; and unlike those
# their pictures are rendered, sent, tracked by two processes more
SHARED_AGE_S, PICTURE_AGE_S = 0.15, 0.4


@dataclass(frozen=True)
class Context:
    """What a fake may use: a folder of the cell's own (short paths, for as long as the cell lives), the world's socket."""

    folder: Path
    world_socket: str
    cell: CellConfig
    name: str       # of the device: its role, or the camera's name


@dataclass(frozen=True)
class Fake:
    """How one device is faked.

    device: the config's entry that leads to the fake instead. process: module and words of the process that is it; ()
    if it lives in the driver's own. environment: what the driver's process needs besides.
    """

    device: dict
    process: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A cell of fakes.

    config: the file for the drivers. processes: name to module and words. environments: by node that drives the device.
    """

    config: Path
    processes: dict[str, tuple[str, ...]]
    environments: dict[str, dict[str, str]]


def node_of(role: str, name: str = '') -> str:
    """The node that drives a device."""
    return f'camera_{name}' if role == devices.CAMERAS else role


def plan(path: str | Path, folder: str | Path, world_socket: str) -> Plan:
    """How to fake all devices of the real cell of a config; writes the drivers' config into `folder`.

    Raises:
      ValueError: the config is wrong, or a device has no fake; one line.
    """
    path, folder = Path(path), Path(folder)
    cell = CellConfig.load(path)
    if not cell.real:
        raise ValueError(f'{path}: a simulated cell has no devices that could be fakes')
    tree = dict(yaml_file.load(path))
    tree['urdf'] = str(cell.urdf)
    if cell.calibration is not None:
        tree['calibration'] = str(cell.calibration)
    tree['limits'] = cell.limits.to_dict()
    tree['limits']['command_age_s'] = max(cell.limits.command_age_s, SHARED_AGE_S)
    tree['limits']['sensor_age_s'] = {k: max(v, PICTURE_AGE_S if k in ('objects', *CAMERAS) else SHARED_AGE_S)
                                      for k, v in cell.limits.sensor_age_s.items()}
    tree['devices'] = {'cameras': {}}
    processes, environments = {}, {}
    for role, name in devices.places(cell):
        try:
            fake = _fake(cell, role, name)(devices.entry(cell, role, name),
                                           Context(folder, world_socket, cell, name or role))
        except ValueError as e:
            raise ValueError(f'{path}: {e}') from None
        if role == devices.CAMERAS:
            tree['devices'][role][name] = fake.device
        else:
            tree['devices'][role] = fake.device
        if fake.process:
            processes[f'fake_{node_of(role, name)}'] = fake.process
        if fake.environment:
            environments[node_of(role, name)] = fake.environment
    config = folder / 'cell.yaml'
    config.write_text(yaml.safe_dump(tree, sort_keys=False))
    return Plan(config, processes, environments)


def _fake(cell: CellConfig, role: str, name: str):
    """The function that fakes the device's driver."""
    driver = devices.entry(cell, role, name)['driver']
    path = devices.where(role, name)
    target = devices.driver_of(role, driver, path).fake or getattr(devices.device_class(cell, role, name), 'FAKE', '')
    if not target:
        raise ValueError(f'{path}.driver: {short(driver)} has no fake, so fake_devices:=true is not possible')
    module, _, function = target.partition(':')
    return getattr(importlib.import_module(module), function)
