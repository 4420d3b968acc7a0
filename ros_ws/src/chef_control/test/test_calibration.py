# SPDX-License-Identifier: Apache-2.0
"""Calibration: against a truth that is known, and what it says of input that does not do."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_devices import config

from chef_control.calibration import cli, extrinsics, file, record, session, workspace
from chef_control.calibration.board import Board, CalibrationError, Seen
from chef_control.calibration.camera import Camera, Intrinsics
from chef_control.calibration.intrinsics import calibrate_intrinsics
from chef_control.fakes import calibration_session
from chef_task import geometry
from chef_task.settings import option

BOARD = Board(columns=6, rows=5, square_m=0.032, marker_m=0.024)
K = Intrinsics(1280, 960, np.array([[1500.0, 0, 650], [0, 1503.0, 470], [0, 0, 1]]), np.array([-0.12, 0.05, 0.0005, -0.001, 0]))
POSE = np.array([1.1, -0.4, 0.4, 0.3, -0.7, -0.5, 0.4])
POSE[3:] /= np.linalg.norm(POSE[3:])
NOISE_PX = 0.1


def turned(rng, most: float) -> np.ndarray:
    q = np.concatenate([[1.0], np.tan(rng.uniform(-most, most, 3) / 2)])
    return q / np.linalg.norm(q)


def see(camera: Camera, board: np.ndarray, rng, noise: float = NOISE_PX) -> Seen:
    """The board's corners as a camera sees them, with noise, some of them missing; board: its pose in the base."""
    corners = np.array([geometry.rotate(board[3:], c) for c in BOARD.corners]) + board[:3]
    pixels = camera.project(corners)
    ids = np.sort(rng.choice(len(pixels), len(pixels) - 3, replace=False))
    return Seen(ids, pixels[ids] + rng.normal(0, noise, (len(ids), 2)), (1280, 960))


def before(camera: Camera, rng, far=(0.4, 0.7)) -> np.ndarray:
    """A pose of the board in the base before a camera, about facing it."""
    middle = np.array([*rng.uniform(-0.08, 0.08, 2), rng.uniform(*far)])
    q = turned(rng, 0.6)
    corner = middle - geometry.rotate(q, np.array([*BOARD.size_m, 0]) / 2)
    return geometry.compose(camera.pose, np.concatenate([corner, q]))


def shown(camera: Camera, rng, count: int, noise: float = NOISE_PX):
    """(corners by name, the tool's poses by name, the board on the tool)."""
    on_tool = np.array([0.02, -0.05, 0.12, *turned(rng, 0.5)])
    seen, tools = {}, {}
    for i in range(count):
        board = before(camera, rng)
        tools[str(i)] = geometry.compose(board, geometry.inverse(on_tool))
        seen[str(i)] = see(camera, board, rng, noise)
    return seen, tools, on_tool


def apart(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """mm and degrees between two poses."""
    turn = 2 * np.arccos(min(1.0, abs(float(a[3:] @ b[3:]))))
    return float(np.linalg.norm(a[:3] - b[:3])) * 1e3, float(np.degrees(turn))


def test_intrinsics_are_found_and_a_bad_picture_is_left_out():
    rng = np.random.default_rng(0)
    camera = Camera('c', K, POSE)
    seen = {str(i): see(camera, before(camera, rng), rng) for i in range(15)}
    bad = seen['7']
    seen['7'] = Seen(bad.ids, bad.pixels + rng.normal(0, 6, bad.pixels.shape), bad.size)
    result = calibrate_intrinsics(BOARD, seen)
    assert '7' not in result.used and len(result.used) == 14
    assert 0.5 * NOISE_PX < result.rms_px < 2 * NOISE_PX
    m = result.intrinsics.matrix
    assert np.abs([m[0, 0] / 1500 - 1, m[1, 1] / 1503 - 1]).max() < 0.004 and np.abs(m[:2, 2] - (650, 470)).max() < 6
    # what matters: where points end in the picture
    points = np.stack([*np.meshgrid(np.linspace(-0.15, 0.15, 9), np.linspace(-0.12, 0.12, 9)), np.full((9, 9), 0.6)], axis=-1)
    still = np.array([0.0, 0, 0, 1, 0, 0, 0])
    difference = Camera('c', K, still).project(points.reshape(-1, 3)) - Camera('c', result.intrinsics, still).project(
        points.reshape(-1, 3))
    assert np.abs(difference - difference.mean(axis=0)).max() < 1.0


def test_pictures_that_do_not_suffice_are_refused():
    rng = np.random.default_rng(1)
    camera = Camera('c', K, POSE)
    seen = {str(i): see(camera, before(camera, rng), rng) for i in range(5)}
    with pytest.raises(CalibrationError, match='found in 5 pictures, 6 are needed'):
        calibrate_intrinsics(BOARD, seen)
    mixed = {**seen, 'other': Seen(seen['0'].ids, seen['0'].pixels, (640, 480))}
    with pytest.raises(CalibrationError, match='several sizes'):
        calibrate_intrinsics(BOARD, mixed)


def test_cameras_are_found_from_a_board_on_the_tool_together():
    rng = np.random.default_rng(2)
    other = np.array([1.1, 0.4, 0.4, 0.4, -0.5, -0.7, 0.3])
    other[3:] /= np.linalg.norm(other[3:])
    cameras = {'a': Camera('a', K, POSE), 'b': Camera('b', K, other)}
    seen, tools, on_tool = {}, {}, None
    for name, camera in cameras.items():
        found, poses, where = shown(camera, rng, 12)
        on_tool = where if on_tool is None else on_tool
        # the same board on the tool for both
        seen[name] = {f'{name}{i}': s for i, s in found.items()}
        tools |= {f'{name}{i}': geometry.compose(geometry.compose(p, where), geometry.inverse(on_tool)) for i, p in poses.items()}
    result = extrinsics.calibrate_on_tool(BOARD, {'a': K, 'b': K}, seen, tools)
    for name, camera in cameras.items():
        mm, degrees = apart(result.cameras[name].pose, camera.pose)
        assert mm < 0.5 and degrees < 0.03, (name, mm, degrees)
        assert mm < 5 * result.deviation[name][0] * 1e3       # what it says of itself is not far off
        assert 0.5 * NOISE_PX < result.rms_px[name] < 3 * NOISE_PX
    assert apart(result.board, on_tool)[0] < 0.5


def test_misread_corners_count_for_little():
    rng = np.random.default_rng(3)
    camera = Camera('a', K, POSE)
    seen, tools, _ = shown(camera, rng, 12)
    for s in list(seen.values())[:4]:
        s.pixels[:3] += 40
    result = extrinsics.calibrate_on_tool(BOARD, {'a': K}, {'a': seen}, tools)
    mm, degrees = apart(result.cameras['a'].pose, POSE)
    assert mm < 1.5 and degrees < 0.1


def test_an_arm_that_turned_about_one_axis_alone_does_not_do():
    rng = np.random.default_rng(4)
    camera = Camera('a', K, POSE)
    tools, seen = {}, {}
    start = before(camera, rng)
    for i, angle in enumerate(np.linspace(-0.5, 0.5, 8)):
        q = np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)])
        board = np.concatenate([start[:3], geometry.quat_multiply(start[3:], q)])
        tools[str(i)], seen[str(i)] = board, see(camera, board, rng)
    with pytest.raises(CalibrationError, match='one axis only'):
        extrinsics.calibrate_on_tool(BOARD, {'a': K}, {'a': seen}, tools)
    with pytest.raises(CalibrationError, match='at 4 poses'):
        extrinsics.calibrate_on_tool(BOARD, {'a': K}, {'a': dict(list(seen.items())[:4])}, tools)


def test_poses_that_are_not_those_of_the_pictures_are_noticed():
    rng = np.random.default_rng(5)
    camera = Camera('a', K, POSE)
    seen, tools, _ = shown(camera, rng, 10)
    shuffled = dict(zip(tools, [*list(tools.values())[1:], tools['0']]))
    with pytest.raises(CalibrationError, match='are the poses of the arm those of the pictures'):
        extrinsics.calibrate_on_tool(BOARD, {'a': K}, {'a': seen}, shuffled)


def test_a_camera_is_found_from_a_board_whose_corners_were_touched():
    rng = np.random.default_rng(6)
    camera = Camera('a', K, POSE)
    board = before(camera, rng, far=(0.5, 0.6))
    ids = (0, 4, 15, 19)
    touched = {i: geometry.rotate(board[3:], BOARD.corners[i]) + board[:3] + rng.normal(0, 2e-4, 3) for i in ids}
    place = extrinsics.touched_board(BOARD, touched)
    mm, degrees = apart(place, board)
    assert mm < 1 and degrees < 0.5
    result = extrinsics.calibrate_on_table(BOARD, {'a': K}, {'a': {'0': see(camera, board, rng)}}, board)
    mm, degrees = apart(result.cameras['a'].pose, POSE)
    assert mm < 2 and degrees < 0.2
    with pytest.raises(CalibrationError, match='mm from where the board has them'):
        extrinsics.touched_board(BOARD, {**touched, 4: touched[4] + 0.02})
    with pytest.raises(CalibrationError, match='in one line'):
        extrinsics.touched_board(BOARD, {i: BOARD.corners[i] for i in (0, 1, 2)})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-1, 1)] * 3), min_size=2, max_size=8), st.floats(0, 0.05))
def test_the_workspace_holds_all_points_but_for_the_margin(points, margin):
    try:
        box = workspace.box(points, margin)
    except CalibrationError as e:
        assert 'workspace' in str(e)
        assert (np.ptp(np.array(points), axis=0) - 2 * margin).min() < 0.02 + 1e-9
        return
    p, low = np.array(points), np.array(box.centre_m) - np.array(box.size_m) / 2
    assert np.allclose(low, p.min(axis=0) + margin) and np.allclose(low + box.size_m, p.max(axis=0) - margin)


def test_the_file_gives_back_what_was_kept(tmp_path):
    whole = calibration_session_truth()
    path = tmp_path / 'deep' / 'cell.yaml'
    file.save(path, whole.with_part('', 'workspace', {'centre_m': [0.6, 0.0, 0.2], 'size_m': [0.2, 0.2, 0.2]}))
    back = file.load(path)
    for name in whole.poses:
        a, b = whole.camera(name), back.camera(name)
        assert np.allclose(a.pose, b.pose) and np.allclose(a.intrinsics.matrix, b.intrinsics.matrix)
    assert back.workspace == workspace.Workspace((0.6, 0.0, 0.2), (0.2, 0.2, 0.2))
    # new intrinsics make the old place of the camera worthless
    name = next(iter(whole.poses))
    renewed = back.with_part(name, 'intrinsics', back.parts['cameras'][name]['intrinsics'])
    with pytest.raises(CalibrationError, match=f'{name} has no extrinsics yet'):
        renewed.camera(name)
    assert back.camera(name)


def calibration_session_truth() -> file.Calibration:
    from chef_control.fakes.colour_tracker import truth

    return truth()


@pytest.mark.parametrize('change, error', [
    (lambda v: v.update(chef_calibration=2), 'this version reads 1'),
    (lambda v: v.update(extra=1), "unknown key 'extra'"),
    (lambda v: v['cameras']['basket_back_left']['extrinsics'].update(pose=[0, 0, 0, 1, 1, 0, 0]), 'length 1.414, not 1'),
    (lambda v: v['cameras']['basket_back_left']['intrinsics'].update(matrix=[1.0, 1.0, 0, 0]), 'is none of a picture'),
    (lambda v: v['cameras']['basket_back_left']['intrinsics'].update(width='wide'), 'whole number of pixels'),
    (lambda v: v['cameras'].update(x=3), "cameras.'x' must be a mapping"),
    (lambda v: v.update(workspace={'centre_m': [0, 0, 0], 'size_m': [0, 1, 1]}), 'above 0'),
])
def test_a_wrong_file_is_one_line_that_names_it(tmp_path, change, error):
    values = json.loads(json.dumps(calibration_session_truth().parts))
    change(values)
    path = tmp_path / 'cell.yaml'
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(CalibrationError, match=error) as caught:
        file.load(path)
    assert str(path) in str(caught.value) and '\n' not in str(caught.value)


_JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
                     lambda c: st.lists(c, max_size=7) | st.dictionaries(st.sampled_from(
                         ['cameras', 'a', 'intrinsics', 'extrinsics', 'pose', 'matrix', 'width', 'height', 'distortion',
                          'serial', 'workspace', 'centre_m', 'size_m']), c, max_size=4), max_leaves=25)


@settings(max_examples=150, deadline=None)
@given(_JSON)
def test_any_content_is_read_or_refused(content):
    values = {'chef_calibration': 1, **content} if isinstance(content, dict) else content
    try:
        file.parse(values)
    except CalibrationError as e:
        assert '\n' not in str(e)


@pytest.mark.parametrize('values, error', [({'columns': 2}, 'columns'), ({'marker_m': 0.03}, 'below square_m'),
                                           ({'columns': 20, 'rows': 20}, 'has 50 markers'), ({'dictionary': 'X'}, 'dictionary')])
def test_a_board_that_cannot_be_is_refused(tmp_path, values, error):
    path = tmp_path / 'board.yaml'
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(CalibrationError, match=error):
        session.read_board(tmp_path)


def test_from_rendered_boards_to_a_file_by_the_command_line(tmp_path, capsys):
    """A cell's whole calibration as an operator does it; the boards are drawn by the simulated cell's renderer."""
    made = calibration_session.Session(BOARD, (640, 480), seed=1)
    calibration_session.write(made, tmp_path, images=7)
    made.close()
    out, cameras = str(tmp_path / 'cell.yaml'), list(made.cameras)
    (tmp_path / 'intrinsics' / 'serials.json').write_text(json.dumps({cameras[0]: '4001', cameras[1]: '4002'}))
    assert cli.main(['intrinsics', out, str(tmp_path / 'intrinsics')]) == 0
    assert file.load(out).serials == {cameras[0]: '4001', cameras[1]: '4002', cameras[2]: ''}
    serials = tmp_path / 'extrinsics' / 'serials.json'
    serials.write_text(json.dumps({cameras[0]: '4002'}))
    assert cli.main(['extrinsics', out, str(tmp_path / 'extrinsics')]) == 2
    assert f'{cameras[0]} is the camera 4002, the intrinsics are of 4001' in capsys.readouterr().err
    serials.unlink()
    assert cli.main(['extrinsics', out, str(tmp_path / 'extrinsics')]) == 0
    (tmp_path / 'points.json').write_text(json.dumps({'a': [0.5, -0.1, 0.1], 'b': [0.7, 0.1, 0.2]}))
    assert cli.main(['workspace', out, str(tmp_path / 'points.json'), '--margin-mm', '10']) == 0
    assert cli.main(['report', out]) == 0
    assert 'POOR' not in capsys.readouterr().out
    found, true = file.load(out), file.load(tmp_path / 'truth.yaml')
    for name in true.poses:
        # a point of the workspace is where it is meant to be: focal length and distance make up for each other
        point = np.array([[0.6, 0.0, 0.1]])
        assert np.linalg.norm(found.camera(name).project(point) - true.camera(name).project(point)) < 0.7
        mm, degrees = apart(found.poses[name], true.poses[name])
        assert mm < 6 and degrees < 0.6, (name, mm, degrees)
    page = (tmp_path / 'cell.html').read_text()
    assert page.count('data:image/png') == 7 and 'ChArUco on the tool' in page and found.workspace.size_m == (0.18, 0.18, 0.08)


def test_the_command_line_says_in_one_line_what_is_wrong(tmp_path, capsys):
    (tmp_path / 'pictures' / 'cam').mkdir(parents=True)
    (tmp_path / 'pictures' / 'cam' / '0.png').write_bytes(b'no picture')
    out = tmp_path / 'cell.yaml'
    for words, error in (
        (['intrinsics', out, tmp_path / 'absent'], 'is no folder'),
        (['intrinsics', out, tmp_path / 'pictures'], '0.png: is no picture'),
        (['intrinsics', out, tmp_path / 'pictures', '--camera', 'other'], 'has no folder other'),
        (['extrinsics', out, tmp_path / 'pictures'], 'there is no calibration yet'),
        (['workspace', out, tmp_path / 'absent.json'], 'cannot be read'),
        (['board', tmp_path / 'board.svg'], 'as .pdf or .png'),
        (['tune', tmp_path / 'x.html', tmp_path / 'absent.png'], 'absent.png: cannot be read'),
        (['tune', tmp_path / 'x.html', tmp_path / 'absent.png', '--tracker', tmp_path], 'cannot be read'),
        (['record', tmp_path / 'no.yaml', tmp_path], 'no.yaml: cannot be read'),
    ):
        assert cli.main(list(map(str, words))) == 2
        said = capsys.readouterr().err
        assert error in said and said.count('\n') == 1, said
    assert not out.exists()


def test_boards_are_printed_in_size_and_read_again(tmp_path):
    assert cli.main(['board', str(tmp_path / 'b.pdf'), '--columns', '6', '--rows', '5', '--square-mm', '32',
                     '--marker-mm', '24']) == 0
    assert (tmp_path / 'b.pdf').read_bytes().startswith(b'%PDF')
    assert session.read_board(tmp_path, tmp_path / 'b.yaml') == BOARD
    picture = np.pad(BOARD.picture(60), 40, constant_values=255)
    seen = BOARD.detect(picture)
    assert len(seen.ids) == len(BOARD.corners)
    assert np.abs(seen.pixels - (BOARD.corners[:, :2] / 0.032 * 60 + 40 - 0.5)).max() < 0.6


def test_the_tuning_page_shows_what_counts(tmp_path):
    image = np.full((60, 80, 3), 120, np.uint8)
    image[10:40, 20:50] = (20, 20, 210)     # OpenCV writes BGR: red
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    assert cli.main(['tune', str(tmp_path / 't.html'), str(tmp_path / 'a.png')]) == 0
    page = (tmp_path / 't.html').read_text()
    assert 'red 900 px, green 0 px, blue 0 px' in page and page.count('data:image/png') == 3


class Eye:
    """A camera whose pictures nobody asks for."""

    @dataclass(frozen=True)
    class Settings:
        serial: str = option('', 'of the camera')

    def __init__(self, settings, on_batch, on_lost):
        pass

    def close(self):
        pass


sys.modules.setdefault('eye_of_the_test', sys.modules[__name__])


def test_recording_notes_which_cameras_took_the_pictures(tmp_path):
    def record_with(left: str, right: str) -> dict:
        cameras = {'basket_front_left': {'driver': 'eye_of_the_test:Eye', 'serial': left},
                   'basket_front_right': {'driver': 'eye_of_the_test:Eye', 'serial': right}}
        roles = {role: {'driver': 'eye_of_the_test:Eye'} for role in ('arm', 'gripper', 'wrench', 'tracker')}
        record.record(config(tmp_path, devices={**roles, 'cameras': cameras}), tmp_path / 'shots', arm=False, ask=lambda _: 'q')
        return session.read_serials(tmp_path / 'shots')

    assert session.read_serials(tmp_path) == {}
    assert record_with('4001', '') == {'basket_front_left': '4001'}
    assert record_with('4001', '4002') == {'basket_front_left': '4001', 'basket_front_right': '4002'}
    with pytest.raises(CalibrationError, match='pictures of basket_front_left are of the camera 4001, this is 4002'):
        record_with('4002', '4001')


def test_a_shot_waits_for_what_came_after_it_was_asked_for_and_for_an_arm_at_rest():
    shots = record.Shots(['cam'], arm=True)
    tool = [0.6, 0, 0.3, 0, 1, 0, 0]

    def send(after_s: float, moved: float = 0.0):
        time.sleep(after_s)
        now = time.time_ns()
        shots.on_batch([{'stream': 'tcp', 'stamp': now, 'pose': tool}, {'stream': 'cam', 'stamp': now + 1, 'image': 'new'},
                        {'stream': 'tcp', 'stamp': now + 2, 'pose': [0.6 + moved, *tool[1:]]}])
    shots.on_batch([{'stream': 'cam', 'stamp': 1, 'image': 'old'}, {'stream': 'tcp', 'stamp': 1, 'pose': tool}])
    with pytest.raises(CalibrationError, match='nothing came from cam, tcp for 0.05 s'):
        shots.take(0.05)
    thread = threading.Thread(target=send, args=(0.05,))
    thread.start()
    images, pose = shots.take(20)
    thread.join()
    assert images == {'cam': 'new'} and pose.tolist() == tool
    thread = threading.Thread(target=send, args=(0.05, 0.01))
    thread.start()
    with pytest.raises(CalibrationError, match='the arm moved'):
        shots.take(20)
    thread.join()
    shots.on_lost('camera cam: unplugged')
    with pytest.raises(CalibrationError, match='unplugged'):
        shots.take(20)
