# SPDX-License-Identifier: Apache-2.0
"""The tracker: painted silhouettes for what must hold exactly, rendered scenes of the cell for the figures."""

from __future__ import annotations

import itertools
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_control.calibration.camera import Camera, Intrinsics
from chef_control.devices.colour_tracker import ColourTracker
from chef_control.drivers.cameras import crop_and_scale
from chef_control.fakes.colour_tracker import truth
from chef_control.simulated_cell import SimulatedCell
from chef_control.tracking import tuning
from chef_control.tracking.fit import spread_rotations
from chef_control.tracking.settings import Colour, TrackerSettings
from chef_control.tracking.shapes import Shape, ShapeError, triplet_shapes
from chef_control.tracking.tracker import Tracker
from chef_sim.render import Renderer
from chef_task import geometry
from chef_task.cell import CellConfig
from chef_task.rewards import RewardInputs, rewards
from chef_task.settings import build
from chef_task.spaces import CAMERAS
from test_devices import URDF

COLOURS = ((200, 20, 20), (30, 190, 40), (20, 40, 210))
GREY = 120
CALIBRATION = truth()
CAMERA_LIST = [CALIBRATION.camera(n) for n in CAMERAS]
BOX = Shape.from_points(np.array(list(itertools.product((-0.02, 0.02), (-0.025, 0.025), (-0.03, 0.03)))))
SPREAD = np.array([[0.55, -0.06, 0.09, 1, 0, 0, 0], [0.62, 0.06, 0.1, 0.96, 0.0, 0.28, 0.0], [0.66, -0.05, 0.08, 0.8, 0, 0, 0.6]])


def paint(camera: Camera, poses: np.ndarray, cover=()) -> np.ndarray:
    """Boxes in the three colours, the farthest first, then grey rectangles (x, y, w, h) over them."""
    k = camera.intrinsics
    image = np.full((k.height, k.width, 3), GREY, np.uint8)
    for i in np.argsort([-np.linalg.norm(p[:3] - camera.pose[:3]) for p in poses]):
        points = np.array([geometry.rotate(poses[i, 3:], c) for c in BOX.corners]) + poses[i, :3]
        hull = cv2.convexHull(camera.project(points).astype(np.float32))
        cv2.fillConvexPoly(image, np.round(hull * 16).astype(np.int32), COLOURS[i], shift=4)
    for x, y, w, h in cover:
        image[y:y + h, x:x + w] = 40
    return image


def errors_mm(found, poses) -> np.ndarray:
    return np.array([np.linalg.norm(f.pose[:3] - p[:3]) * 1e3 for f, p in zip(found, poses)])


@pytest.fixture(scope='module')
def tracker() -> Tracker:
    return Tracker(CAMERA_LIST, [BOX] * 3)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_free_objects_are_found_to_a_millimetre(seed):
    rng = np.random.default_rng(seed)
    poses = SPREAD.copy()
    poses[:, :3] += rng.uniform(-0.01, 0.01, (3, 3))
    poses[:, 3:] = rng.normal(size=(3, 4))
    poses[:, 3:] /= np.linalg.norm(poses[:, 3:], axis=1, keepdims=True)
    found = Tracker(CAMERA_LIST, [BOX] * 3).track({c.name: paint(c, poses) for c in CAMERA_LIST}, 5)
    assert errors_mm(found, poses).max() < 1.5
    assert all(f.views == 3 and f.stamp == 5 and f.confidence > 0.9 for f in found)


def test_a_hidden_part_does_not_draw_the_pose_away(tracker):
    images = {c.name: paint(c, SPREAD) for c in CAMERA_LIST}
    camera = CAMERA_LIST[0]
    x, y = np.round(camera.project(SPREAD[:1, :3])[0]).astype(int)
    images[camera.name] = paint(camera, SPREAD, cover=[(x, y - 60, 60, 120)])     # half of it, by what no colour tells of
    tracker.forget()
    found = tracker.track(images, 1)
    centre = np.argwhere((images[camera.name] == COLOURS[0]).all(axis=2)).mean(axis=0)[::-1]
    assert np.linalg.norm(centre - (x, y)) > 10       # as far as the spot's middle has moved, pixels
    assert errors_mm(found, SPREAD).max() < 1.5


def test_a_camera_that_sees_something_else_is_dropped(tracker):
    images = {c.name: paint(c, SPREAD) for c in CAMERA_LIST}
    wrong = paint(CAMERA_LIST[2], SPREAD)
    wrong[(wrong == COLOURS[0]).all(axis=2)] = GREY
    cv2.circle(wrong, (80, 400), 40, COLOURS[0], -1)
    images[CAMERA_LIST[2].name] = wrong
    tracker.forget()
    red = tracker.track(images, 1)[0]
    assert (red.views, red.dropped) == (2, 1)
    assert errors_mm([red], SPREAD)[0] < 2


def test_what_one_camera_sees_keeps_its_last_pose(tracker):
    tracker.forget()
    first = tracker.track({c.name: paint(c, SPREAD) for c in CAMERA_LIST}, 10)
    blind = {c.name: np.full_like(paint(c, SPREAD), GREY) for c in CAMERA_LIST[1:]}
    second = tracker.track({CAMERA_LIST[0].name: paint(CAMERA_LIST[0], SPREAD), **blind}, 20)
    assert all(np.array_equal(a.pose, b.pose) and b.stamp == 10 and b.views == 0 for a, b in zip(first, second))


def test_pictures_must_come_from_calibrated_cameras(tracker):
    with pytest.raises(ValueError, match="'attic' is not calibrated"):
        tracker.track({'attic': np.zeros((480, 640, 3), np.uint8)}, 1)


def test_starting_orientations_leave_no_gap():
    r = spread_rotations(160)
    assert np.allclose(r @ r.transpose(0, 2, 1), np.eye(3)) and np.allclose(np.linalg.det(r), 1)
    others = spread_rotations(997)
    nearest = np.einsum('aij,bij->ab', others, r).max(axis=1)
    assert np.degrees(np.arccos(np.clip((nearest - 1) / 2, -1, 1))).max() < 60


def test_a_colour_may_pass_through_red():
    chosen = build(TrackerSettings, {'red': {'hue_deg': [340, 20]}})
    assert chosen.red == Colour((340.0, 20.0))
    with pytest.raises(ValueError, match='hue_deg'):
        build(TrackerSettings, {'red': {'hue_deg': [340]}})


@pytest.mark.parametrize('values', [{'redd': {}}, {'red': {'hue_deg': [0, 400]}}, {'views_least': 1}, {'red': 3}])
def test_wrong_settings_are_named(values):
    with pytest.raises(ValueError, match='red|views_least'):
        build(TrackerSettings, values)


@pytest.mark.parametrize('colour', range(3))
def test_suggested_thresholds_hold_the_sample(colour):
    rng = np.random.default_rng(colour)
    image = np.full((60, 80, 3), GREY, np.uint8)
    image[20:40, 20:50] = np.clip(np.array(COLOURS[colour]) + rng.normal(0, 12, (20, 30, 3)), 0, 255)
    name = ('red', 'green', 'blue')[colour]
    import yaml
    chosen = build(TrackerSettings, yaml.safe_load(tuning.suggest(f'{name}=20,20,30,20', image)))
    share = (tuning.masks(image, chosen)[colour] > 0).sum() / 600
    assert share > 0.95
    with pytest.raises(tuning.TuningError, match='80 x 60'):
        tuning.suggest(f'{name}=60,20,30,20', image)


def test_shapes_that_are_none_are_refused_in_one_line(tmp_path):
    path = tmp_path / 'x.stl'
    path.write_bytes(b'solid')
    with pytest.raises(ShapeError, match='x.stl.*not a binary STL'):
        Shape.from_stl(path)
    with pytest.raises(ValueError, match='no volume'):
        Shape.from_points(np.zeros((5, 3)))


def test_rendered_scenes_of_the_cell_at_the_policys_size():
    """A small version of `./chef bench tracker`: every triplet, as placed and with red on blue, 128 x 128 pixels."""
    cell = SimulatedCell(CellConfig.load(URDF.parents[1] / 'cells' / 'sim.yaml'))
    renderer, off, apart = Renderer(1, 640, 480), [], []
    for seed, triplet in enumerate((1, 2, 3, 4, 5)):
        cell.reset(triplet, seed)
        tracker = Tracker(CAMERA_LIST, triplet_shapes(triplet))
        objects = np.array(cell.world.sample('objects')['poses'])
        for stacked in (False, True):
            if stacked:
                objects[0, :3] = objects[2, :3] + (0.0, 0.0, 0.05)
                cell.world.set_objects(objects)
            sample = cell.world.sample('render')
            pictures = {c: crop_and_scale(renderer.render(c, sample)) for c in CAMERAS}
            found = tracker.track(pictures, seed + 1)
            off += [e for e, f in zip(errors_mm(found, objects), found) if f.views]
            inputs = [RewardInputs(p[0, :3], p[2, :3], cell.world.pinch_position, np.float64(0), np.int64(1))
                      for p in (objects, np.array([f.pose for f in found]))]
            apart.append(np.abs(np.subtract(*(rewards(i) for i in inputs))).max())
            tracker.forget()
    renderer.close()
    assert len(off) == 30, 'some object was not found'
    assert np.median(off) < 1.0 and np.percentile(off, 95) < 3 and max(off) < 8, (np.median(off), np.percentile(off, 95), max(off))
    assert np.median(apart) < 0.05


class Heard(list):
    """Batches of a device, waited for with a deadline."""

    def wait(self, count: int) -> None:
        end = time.monotonic() + 20
        while len(self) < count:
            assert time.monotonic() < end, f'{len(self)} of {count} samples came'
            time.sleep(0.005)


@pytest.fixture
def device(tmp_path):
    from chef_control.calibration import file

    path = tmp_path / 'calibration.yaml'
    file.save(path, CALIBRATION)
    heard, lost, made = Heard(), [], []

    def make(**values):
        made.append(ColourTracker(build(ColourTracker.Settings, {'calibration': str(path), **values}), heard.extend, lost.append))
        return made[-1]
    yield make, heard, lost
    for d in made:
        d.close()


def test_the_device_tracks_what_it_is_fed_and_tells_how_sure_it_is(device):
    make, heard, lost = device
    d = make(triplet=5)
    cell = SimulatedCell(CellConfig.load(URDF.parents[1] / 'cells' / 'sim.yaml'), triplet=4)
    cell.reset(4, 2)
    d.expect(4)
    with Renderer(4, 128, 128) as renderer:
        pictures = {c: renderer.render(c, cell.world.sample('render')) for c in CAMERAS}
    stamp = 10**18
    for i, name in enumerate(CAMERAS):
        d.feed(name, pictures[name], stamp + i)
    d.feed('elsewhere', pictures[CAMERAS[0]], stamp)
    heard.wait(1)
    sample = heard[0]
    assert sample['stream'] == 'objects' and sample['stamp'] == stamp and sample['age_s'] == [0.0] * 3
    assert np.abs(np.array(sample['poses'])[:, :3] - np.array(cell.world.sample('objects')['poses'])[:, :3]).max() < 0.008
    assert min(sample['confidence']) > 0.5 and sample['views'] == [3] * 3 and not lost

    for name in CAMERAS[:2]:        # one camera is late for good: the look goes on without it; nothing is seen any more
        d.feed(name, np.zeros_like(pictures[name]), stamp + 3 * 10**9)
    heard.wait(2)
    assert np.isnan(heard[1]['poses']).all() and heard[1]['age_s'] == [3.0] * 3 and heard[1]['confidence'] == [0.0] * 3


def test_a_device_without_what_it_needs_says_so(tmp_path, device):
    make, _, _ = device
    with pytest.raises(ValueError, match='there is no calibration yet'):
        make(calibration=str(tmp_path / 'absent.yaml'))
    with pytest.raises(ValueError, match='names no calibration'):
        make(calibration='')
    with pytest.raises(ValueError, match='attic has no intrinsics'):
        make(cameras=['attic', 'basket_back_left'])
    with pytest.raises(ValueError, match='1 calibrated cameras, 2 are needed'):
        make(cameras=['basket_back_left'])
    with pytest.raises(ValueError, match='none.stl: cannot be read'):
        make(shapes=['none.stl'] * 3)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([(640, 480), (1920, 1200), (1280, 1024), (500, 700)]), st.floats(-200, 200), st.floats(-150, 150))
def test_cropped_intrinsics_see_what_cropped_pictures_show(size, x, y):
    k = Intrinsics.pinhole(*size, 40.0)
    point = np.array([x, y]) + k.matrix[:2, 2]
    image = np.zeros((size[1], size[0], 3), np.uint8)
    yy, xx = np.mgrid[:size[1], :size[0]]
    blob = np.exp(-((xx - point[0])**2 + (yy - point[1])**2) / (2 * 9.0**2))
    image[..., 0] = np.round(255 * blob)
    small = crop_and_scale(image)[..., 0].astype(float)
    sy, sx = np.mgrid[:128, :128]
    ideal = k.ideal(point[None])[0] / k.focal_px
    left = k.cropped(128, 128)
    expected = ideal * (left.matrix[0, 0], left.matrix[1, 1]) + left.matrix[:2, 2]
    if not (np.all(expected > 10) and np.all(expected < 117)):
        return
    found = np.array([(small * sx).sum(), (small * sy).sum()]) / small.sum()
    assert np.abs(found - expected).max() < 0.1
