# SPDX-License-Identifier: Apache-2.0
"""`./chef calibrate`: cameras, their places, the workspace, and the tracker's colours."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import yaml

from chef_control.calibration import extrinsics, file, report, session, workspace
from chef_control.calibration.board import Board, CalibrationError
from chef_control.calibration.intrinsics import calibrate_intrinsics
from chef_task import settings
from chef_task.errors import OneLineError

_POOR_PX = 1.0      # reprojection error above which a result is kept, but warned of


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line, as all else here does."""

    def error(self, message: str):
        print(f'{self.prog}: {message} (see --help)', file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog='./chef calibrate', description='Calibrate a cell; docs/tracking.md tells how, step by step.')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + '.')
        sub.set_defaults(run=run)
        return sub

    sub = command('board', _board, 'write a ChArUco board for the printer, and what it is into a .yaml beside it')
    sub.add_argument('output', type=Path, help='.pdf (of exact size) or .png')
    sub.add_argument('--columns', type=int, default=Board.columns, help='default: %(default)s')
    sub.add_argument('--rows', type=int, default=Board.rows, help='default: %(default)s')
    sub.add_argument('--square-mm', type=float, default=Board.square_m * 1000, help='default: %(default)g')
    sub.add_argument('--marker-mm', type=float, default=Board.marker_m * 1000, help='default: %(default)g')
    sub.add_argument('--dictionary', default=Board.dictionary, help='default: %(default)s')

    sub = command('record', _record, "take pictures with a cell's own cameras, and the arm's poses with them")
    sub.add_argument('cell', type=Path, help="the cell's config")
    sub.add_argument('folder', type=Path, help='where to')
    sub.add_argument('--no-arm', action='store_true', help='pictures alone, for intrinsics')

    for name, run, text in (('intrinsics', _intrinsics, 'how each camera sees, from pictures of the board held before it'),
                            ('extrinsics', _extrinsics, "where each camera is in the robot's base, from pictures of the board")):
        sub = command(name, run, text)
        sub.add_argument('calibration', type=Path, help='the file to write into, as named in the config of the cell')
        sub.add_argument('folder', type=Path, help='with a folder of pictures for each camera')
        sub.add_argument('--camera', action='append', default=[], help='only this one; may be given several times')
        sub.add_argument('--board', type=Path, help='file with the board (default: board.yaml in the folder)')
        if name == 'intrinsics':
            sub.add_argument('--serial', default='', help='of the camera, with one --camera (default: as record found it)')
        else:
            sub.add_argument('--on', choices=('tool', 'table'), default='tool', help='where the board is (default: tool)')
            place = sub.add_mutually_exclusive_group()
            place.add_argument('--board-pose', nargs=7, type=float, metavar=('X', 'Y', 'Z', 'QW', 'QX', 'QY', 'QZ'),
                               help="of a board on the table, in the robot's base, m")
            place.add_argument('--touched', type=Path,
                               help='JSON of corners touched with the tip of the tool: {"ID": [x, y, z]}, m')

    sub = command('workspace', _workspace, 'the box that the pinch may move in, from points that the robot was led to')
    sub.add_argument('calibration', type=Path)
    sub.add_argument('points', type=Path, help='JSON: {"NAME": [x, y, z]} or poses of 7 numbers, of the pinch, m')
    sub.add_argument('--margin-mm', type=float, default=0.0, help='to keep from them (default: %(default)g)')

    sub = command('report', _report, 'one page on what was measured, how well and when')
    sub.add_argument('calibration', type=Path)
    sub.add_argument('output', type=Path, nargs='?', help='.html (default: beside the calibration)')

    sub = command('tune', _tune, "the tracker's view of pictures, to choose its colours by")
    sub.add_argument('output', type=Path, help='.html')
    sub.add_argument('pictures', type=Path, nargs='+')
    sub.add_argument('--tracker', type=Path, help="file with the tracker's settings, or the cell's config")
    sub.add_argument('--sample', action='append', default=[], metavar='COLOUR=X,Y,W,H',
                     help='a rectangle of the first picture in which all is of that colour: prints thresholds for it')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0, or 2 for bad input or what does not suffice to calibrate from."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as e:
        return int(e.code or 0)
    try:
        return args.run(args) or 0
    except OneLineError as e:
        print(f'chef calibrate: {e}', file=sys.stderr)
        return 2


def _now() -> str:
    return datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')


def _board(args: argparse.Namespace) -> None:
    try:
        board = settings.build(Board, {'columns': args.columns, 'rows': args.rows, 'square_m': args.square_mm / 1000,
                                       'marker_m': args.marker_mm / 1000, 'dictionary': args.dictionary})
    except ValueError as e:
        raise CalibrationError(e) from None
    board.save(args.output)
    beside = args.output.with_suffix('.yaml')
    report.write(beside, yaml.safe_dump(settings.to_dict(board)).encode())
    width, height = board.size_m
    print(f'{args.output}: {width * 1000:.0f} x {height * 1000:.0f} mm; print it at 100 %, glue it onto something flat, measure '
          f'a square, and put what you measured into {beside} as square_m (and marker_m)')


def _record(args: argparse.Namespace) -> None:
    from chef_control.calibration.record import record

    record(args.cell, args.folder, arm=not args.no_arm)


def _found(args: argparse.Namespace, board: Board) -> dict:
    """What was found of the board: by camera, then by picture."""
    found = {}
    for name in session.cameras_of(args.folder, args.camera):
        found[name], missing = session.detect(board, args.folder / name)
        if missing:
            print(f'{name}: no board in {len(missing)} of {len(missing) + len(found[name])} pictures: {", ".join(missing[:10])}'
                  + (' ...' if len(missing) > 10 else ''))
    return found


def _say(name: str, what: str, rms: float, rest: str) -> None:
    poor = f'; POOR: above {_POOR_PX:g} px, look at the report' if rms > _POOR_PX else ''
    print(f'{name}: {what}, reprojection {rms:.3f} px, {rest}{poor}')


def _intrinsics(args: argparse.Namespace) -> None:
    if args.serial and len(args.camera) != 1:
        raise CalibrationError('--serial belongs to one camera: name it with --camera')
    board = session.read_board(args.folder, args.board)
    calibration, serials = file.load_or_new(args.calibration), session.read_serials(args.folder)
    pictures = {}
    for name, seen in _found(args, board).items():
        try:
            result = calibrate_intrinsics(board, seen)
        except CalibrationError as e:
            raise CalibrationError(f'{args.folder / name}: {e}') from None
        k, m = result.intrinsics, result.intrinsics.matrix
        if 'extrinsics' in calibration.parts.get('cameras', {}).get(name, {}):
            print(f'{name}: its extrinsics were measured with the old intrinsics and are removed: measure them again')
        calibration = calibration.with_part(name, 'intrinsics', {
            'width': k.width, 'height': k.height, 'matrix': [round(float(v), 4) for v in (m[0, 0], m[1, 1], m[0, 2], m[1, 2])],
            'distortion': [round(float(v), 7) for v in k.distortion], 'rms_px': round(result.rms_px, 4),
            'deviation_px': [round(float(v), 3) for v in result.deviation_px], 'images': len(result.used),
            'method': 'ChArUco, OpenCV calibrateCamera', 'board': settings.to_dict(board), 'date': _now()})
        serial = args.serial or serials.get(name, '')
        if serial or not calibration.serials.get(name):
            calibration = calibration.with_part(name, 'serial', serial)
        _say(name, f'f {m[0, 0]:.1f} {m[1, 1]:.1f} px', result.rms_px, f'{len(result.used)} of {len(seen)} pictures used')
        pictures[f'{name}_intrinsics.png'] = report.residual_picture(f'{name}, intrinsics', (k.width, k.height), result.pixels,
                                                                     result.residuals)
    _keep(args.calibration, calibration, pictures)


def _extrinsics(args: argparse.Namespace) -> None:
    board = session.read_board(args.folder, args.board)
    calibration = file.load(args.calibration)
    found, serials = _found(args, board), session.read_serials(args.folder)
    for name, seen in found.items():
        if name not in calibration.intrinsics:
            raise CalibrationError(f'{args.calibration}: camera {name} has no intrinsics yet: ./chef calibrate intrinsics')
        now, before = serials.get(name, ''), calibration.serials.get(name, '')
        if now and before and now != before:
            raise CalibrationError(f'{args.folder}: {name} is the camera {now}, the intrinsics are of {before}: '
                                   'are cameras swapped?')
        k = calibration.intrinsics[name]
        for picture, s in seen.items():
            if s.size != (k.width, k.height):
                raise CalibrationError(f'{args.folder / name}: {picture} has {s.size[0]} x {s.size[1]} pixels, the intrinsics '
                                       f'are of {k.width} x {k.height}')
    if args.on == 'tool':
        if args.board_pose or args.touched:
            raise CalibrationError('--board-pose and --touched are for a board --on table')
        result = extrinsics.calibrate_on_tool(board, calibration.intrinsics, found, session.read_poses(args.folder))
    else:
        result = extrinsics.calibrate_on_table(board, calibration.intrinsics, found, _place(args, board))
    pictures = {}
    for name, camera in result.cameras.items():
        place, turn = result.deviation[name]
        calibration = calibration.with_part(name, 'extrinsics', {
            'pose': [round(float(v), 7) for v in camera.pose], 'rms_px': round(result.rms_px[name], 4),
            'deviation_mm': round(float(place) * 1000, 3), 'deviation_deg': round(float(np.degrees(turn)), 4),
            'views': result.views[name], 'method': f'ChArUco on the {args.on}', 'board_pose': [round(float(v), 6)
                                                                                             for v in result.board],
            'board': settings.to_dict(board), 'date': _now()})
        x, y, z = camera.pose[:3]
        _say(name, f'at {x:.4f} {y:.4f} {z:.4f} m', result.rms_px[name],
             f'+-{place * 1000:.2f} mm +-{np.degrees(turn):.3f} deg of the corners alone, {result.views[name]} pictures')
        k = camera.intrinsics
        pictures[f'{name}_extrinsics.png'] = report.residual_picture(f'{name}, extrinsics', (k.width, k.height),
                                                                     result.pixels[name], result.residuals[name])
    _keep(args.calibration, calibration, pictures)


def _place(args: argparse.Namespace, board: Board) -> np.ndarray:
    if args.board_pose:
        return session.pose(args.board_pose, '--board-pose')
    if not args.touched:
        raise CalibrationError('--on table needs --board-pose or --touched')
    touched = {}
    for key, value in session.read_json(args.touched).items():
        if not key.isdecimal():
            raise CalibrationError(f'{args.touched}: {key!r} is not the number of a corner')
        touched[int(key)] = session.numbers(value, 3, f'{args.touched}: {key}')
    try:
        return extrinsics.touched_board(board, touched)
    except CalibrationError as e:
        raise CalibrationError(f'{args.touched}: {e}') from None


def _keep(path: Path, calibration: file.Calibration, pictures: dict[str, bytes]) -> None:
    file.save(path, calibration)
    for name, png in pictures.items():
        report.write(report.folder_of(path) / name, png)
    print(f'kept in {path}, pictures in {report.folder_of(path)}')


def _workspace(args: argparse.Namespace) -> None:
    points = [session.numbers(list(v)[:3] if isinstance(v, list) and len(v) == 7 else v, 3, f'{args.points}: {k}')
              for k, v in session.read_json(args.points).items()]
    try:
        box = workspace.box(points, args.margin_mm / 1000)
    except CalibrationError as e:
        raise CalibrationError(f'{args.points}: {e}') from None
    centre, size = ([round(v, 5) for v in of] for of in (box.centre_m, box.size_m))
    calibration = file.load_or_new(args.calibration).with_part('', 'workspace', {
        'centre_m': centre, 'size_m': size, 'margin_mm': args.margin_mm, 'points': len(points), 'method': 'touched points',
        'date': _now()})
    file.save(args.calibration, calibration)
    print(f'kept in {args.calibration}; for the limits in the config of the cell:\n'
          f'  workspace_centre_m: {centre}\n  workspace_size_m: {size}')


def _report(args: argparse.Namespace) -> None:
    output = args.output or args.calibration.with_suffix('.html')
    report.write(output, report.page(args.calibration, file.load(args.calibration)).encode())
    print(output)


def _tune(args: argparse.Namespace) -> None:
    from chef_control.tracking import tuning

    chosen = tuning.read_settings(args.tracker)
    pictures = [(path, session.read_image(path)) for path in args.pictures]
    for sample in args.sample:
        print(tuning.suggest(sample, pictures[0][1]))
    report.write(args.output, tuning.page(pictures, chosen).encode())
    print(args.output)


if __name__ == '__main__':
    raise SystemExit(main(sys.argv[1:]))
