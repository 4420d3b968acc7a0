# SPDX-License-Identifier: Apache-2.0
"""What the tracker by colour needs in a cell of fakes: the true calibration of the simulated world's cameras."""

from __future__ import annotations

from collections.abc import Collection

from chef_control.calibration import file
from chef_control.calibration.camera import Intrinsics
from chef_control.fakes.plan import Context, Fake
from chef_sim.render import views
from chef_task.spaces import CAMERAS, OBJECTS

SIZE = (640, 480)       # any will do: fake cameras see the same from top to bottom, whatever their aspect


def truth(size: tuple[int, int] = SIZE, cameras: Collection[str] = CAMERAS) -> file.Calibration:
    """The simulated cell's cameras of these names, of pictures of a width and height."""
    out = file.Calibration()
    for name, (fovy, pose) in ((n, v) for n, v in views().items() if n in cameras):
        m = Intrinsics.pinhole(*size, fovy).matrix
        out = out.with_part(name, 'intrinsics', {
            'width': size[0], 'height': size[1], 'matrix': [float(v) for v in (m[0, 0], m[1, 1], m[0, 2], m[1, 2])],
            'distortion': [0.0] * 5, 'method': 'truth of the simulated cell'})
        out = out.with_part(name, 'extrinsics', {'pose': pose.tolist(), 'method': 'truth of the simulated cell'})
    return out


def fake(entry: dict, context: Context) -> Fake:
    """The very tracker, with a calibration of the fake cameras, and told nothing of the lab's own colours and shapes."""
    path = context.folder / 'calibration.yaml'
    file.save(path, truth(cameras=context.cell.devices['cameras']))
    tracking = {k: v for k, v in (entry.get('tracking') or {}).items() if k not in OBJECTS}
    return Fake({**{k: v for k, v in entry.items() if k != 'shapes'}, 'calibration': str(path), 'tracking': tracking})
