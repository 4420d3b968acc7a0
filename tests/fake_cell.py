# SPDX-License-Identifier: Apache-2.0
"""The config of a real cell for tests: all devices faked; with pictures the tracker by colour, else one that knows."""

from __future__ import annotations

from pathlib import Path

import yaml

from chef_control.fakes import arm_plans

ROOT = Path(__file__).resolve().parent.parent


def missing() -> str:
    """What a fake cell lacks on this machine, in words, or ''."""
    return arm_plans.missing()


def write(folder: Path, pictures: bool = False) -> Path:
    """Writes the config into a folder; its path.

    The world puts the objects anew, as the reset by moving the robot takes a minute. With pictures there are cameras of both
    drivers, and a tracker that gives an object up soon.
    """
    values = {
        'kind': 'real', 'urdf': str(ROOT / 'config' / 'robots' / 'sawyer.urdf'), 'reset': 'place',
        'home_rad': [0.0, -0.5186, -0.5294, 1.2209, 0.4086, 1.0783, 0.0],
        'devices': {
            'arm': {'driver': 'sawyer', 'master_uri': 'http://robot.invalid:11311'},
            'gripper': {'driver': 'robotiq_2f85', 'port': '/dev/serial/by-id/gripper'},
            'wrench': {'driver': 'robotiq_fts300', 'port': '/dev/serial/by-id/wrench'},
            'tracker': {'driver': 'chef_control.fakes.world_tracker:WorldTracker'},
        },
    }
    if pictures:
        values['devices'] |= {
            'cameras': {'basket_front_left': {'driver': 'basler'}, 'basket_front_right': {'driver': 'basler'},
                        'basket_back_left': {'driver': 'opencv', 'source': 'http://camera.invalid/stream'}},
            'tracker': {'driver': 'colour', 'tracking': {'age_s': 0.5}},
        }
    path = folder / 'fake_cell.yaml'
    path.write_text(yaml.safe_dump(values))
    return path
