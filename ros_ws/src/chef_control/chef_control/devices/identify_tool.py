# SPDX-License-Identifier: Apache-2.0
"""`python -m chef_control.devices.identify_tool READINGS.csv`: mass and centre of mass of what hangs on a force sensor.

The file has a header and one line for each orientation in which the arm stood still and touched nothing, six and more,
tilted by 30 degrees and more about two axes: `fx,fy,fz,tx,ty,tz,qw,qx,qy,qz`, the sensor's reading (N, N m; with
`tool_mass_kg: 0`, `tare: false`) and the orientation of the frame tcp in the base's frame.
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

import numpy as np

from chef_control.devices.wrench import Identified, WrenchError, identify
from chef_task.geometry import quat_multiply
from chef_task.yaml_file import short

_COLUMNS = ('fx', 'fy', 'fz', 'tx', 'ty', 'tz', 'qw', 'qx', 'qy', 'qz')


def read(path: Path) -> np.ndarray:
    """The file's numbers, [N, 10]; WrenchError naming the line that is wrong."""
    try:
        with open(path, newline='', encoding='utf-8') as f:
            rows = list(csv.reader(f))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise WrenchError(f'{path} cannot be read: {e}') from None
    header = tuple(c.strip() for c in rows[0]) if rows else ()
    if header != _COLUMNS:
        raise WrenchError(f'{path}: the first line must be {",".join(_COLUMNS)}, not {short(",".join(header))}')
    out = []
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        try:
            values = [float(v) for v in row]
        except ValueError:
            values = []
        if len(values) != len(_COLUMNS) or not all(map(math.isfinite, values)):
            raise WrenchError(f'{path}, line {number}: expected {len(_COLUMNS)} finite numbers, not {short(",".join(row))}')
        if not abs(math.hypot(*values[6:]) - 1.0) < 0.01:
            raise WrenchError(f'{path}, line {number}: qw,qx,qy,qz is no unit quaternion')
        out.append(values)
    return np.array(out).reshape(-1, len(_COLUMNS))


def from_file(path: Path, mount: tuple[float, ...]) -> Identified:
    """The tool from a file of readings; mount: orientation of the sensor on the frame tcp, w x y z."""
    rows = read(path)
    orientations = quat_multiply(rows[:, 6:], np.broadcast_to(mount, (len(rows), 4))) if len(rows) else rows[:, 6:]
    return identify(rows[:, :6], orientations)


def main(argv: list[str] | None = None) -> None:
    """Prints the lines for the cell's file."""
    parser = argparse.ArgumentParser(prog='python -m chef_control.devices.identify_tool',
                                     description='Mass and centre of mass of what hangs on a force sensor, for the '
                                     "cell's file. READINGS.csv: " + ','.join(_COLUMNS) + ', six orientations and more.')
    parser.add_argument('readings', type=Path, metavar='READINGS.csv')
    parser.add_argument('--mount', type=float, nargs=4, default=(1.0, 0.0, 0.0, 0.0), metavar=('W', 'X', 'Y', 'Z'),
                        help="as in the cell's file: orientation of the sensor on the frame tcp")
    args = parser.parse_args(argv)
    try:
        found = from_file(args.readings, tuple(args.mount))
    except WrenchError as e:
        parser.exit(1, f'identify_tool: {e}\n')
    print(f'tool_mass_kg: {found.tool.mass_kg:.3f}')
    print(f'tool_com_m: [{", ".join(f"{v:.4f}" for v in found.tool.com_m)}]')
    print(f'# not explained by it: {found.residual_n:.2f} N, {found.residual_nm:.3f} N m (root mean square)')


if __name__ == '__main__':
    main()
