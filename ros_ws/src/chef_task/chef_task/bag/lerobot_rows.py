# SPDX-License-Identifier: Apache-2.0
"""One episode as columns of a LeRobot dataset, and what the columns are called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chef_task.bag.lerobot_stats import histogram
from chef_task.bag.reader import Episode
from chef_task.observation import FIELDS, features
from chef_task.rewards import MAIN_TASK
from chef_task.spaces import ACTION_NAMES, CAMERAS, CONTROL_HZ, IMAGE_SHAPE, JOINTS, streams_of

FPS = round(CONTROL_HZ)
STATE = tuple(k for k, f in FIELDS.items() if f.group in ('proprioception', 'haptics'))
OBJECTS = tuple(k for k, f in FIELDS.items() if f.group == 'objects')
UNITS = {
    'joint_angle': 'rad', 'joint_velocity': 'rad/s', 'joint_torque': 'N m', 'tcp_velocity': 'm/s, rad/s',
    'pinch_pose': 'm, unit quaternion w x y z, robot base frame', 'tcp_pose': 'as pinch_pose',
    'gripper_position': '0 open .. 1 closed', 'gripper_velocity': 'full strokes per second',
    'gripper_grasp': '1 none, 2 inward, 3 outward', 'wrist_force': 'N', 'wrist_torque': 'N m',
    '*_pose of an object': 'as pinch_pose', '*_to_pinch': 'that less pinch_pose, by component',
    'action': '[-1, 1]: tool velocity x y z, wrist rotation, gripper velocity (positive closes)',
    'next.reward, next.rewards': '0 .. 1', 'stamp_ns, stream_stamps_ns': 'ns', 'timestamp': 's',
}


def _parts(key: str) -> list[str]:
    """Names of a feature's components: `tcp_pose.qw`, `joint_angle.right_j0`, `gripper_position`."""
    size = FIELDS[key].shape[0]
    if size == 1:
        return [key]
    ends = {3: 'x y z'.split(), 6: 'x y z rx ry rz'.split(), 7: 'x y z qw qx qy qz'.split()}[size]
    return [f'{key}.{end}' for end in (JOINTS if key.startswith('joint_') else ends)]


def features_of(observation: str, tasks: tuple[str, ...]) -> dict[str, dict]:
    """What info.json says of every feature.

    Poses of objects are an observation only where policies act from them; else they are called `objects`.
    """
    def vector(dtype, names):
        return {'dtype': dtype, 'shape': [len(names)], 'names': list(names)}

    def scalar(dtype):
        return {'dtype': dtype, 'shape': [1], 'names': None}

    pixels = observation == 'pixels'
    image = {'dtype': 'image', 'shape': list(IMAGE_SHAPE), 'names': ['height', 'width', 'channels']}
    return {
        'observation.state': vector('float32', [n for k in STATE for n in _parts(k)]),
        **({f'observation.images.{c}': image for c in CAMERAS} if pixels else {}),
        objects_key(observation): vector('float32', [n for k in OBJECTS for n in _parts(k)]),
        'action': vector('float32', ACTION_NAMES),
        'next.reward': scalar('float32'), 'next.rewards': vector('float32', tasks),
        'next.done': scalar('bool'), 'next.truncated': scalar('bool'), 'next.success': scalar('bool'),
        'stamp_ns': scalar('int64'), 'stream_stamps_ns': vector('int64', streams_of(observation)),
        'timestamp': scalar('float32'),
        **{k: scalar('int64') for k in ('frame_index', 'episode_index', 'index', 'task_index')}}


def objects_key(observation: str) -> str:
    """The feature with the poses of the objects."""
    return 'objects' if observation == 'pixels' else 'observation.environment_state'


@dataclass(frozen=True)
class Columns:
    """T transitions. values: feature to [T, n]; tasks: names of the acting tasks, T of them.

    images: feature to T PNGs; histograms: feature to the summed `histogram`s of its images, int64 [3, 256].
    """

    values: dict[str, np.ndarray]
    tasks: list[str]
    images: dict[str, list[bytes]]
    histograms: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.tasks)


def columns_of(episode: Episode, rewards: np.ndarray, tasks: tuple[str, ...], observation: str) -> Columns:
    """The transitions of an episode; a Step that is not finite (a sensor fault) ends it before, as in replay.

    Args:
      rewards: of all Steps, [N, K], of the K `tasks`.
      observation: 'pixels' or 'state' (no images).

    Raises:
      BagError: the bag is damaged.
    """
    streams = streams_of(observation)
    cameras = CAMERAS if observation == 'pixels' else ()
    images: dict[str, list[bytes]] = {f'observation.images.{c}': [] for c in cameras}
    histograms = {k: np.zeros((3, 256), np.int64) for k in images}
    steps, state, objects, before = [], [], [], None
    for i, (step, samples) in enumerate(episode.iterate(streams)):
        seen = features(samples, step.last_action)
        vectors = [np.concatenate([seen[k] for k in keys]) for keys in (STATE, OBJECTS)]
        if not all(np.isfinite(v).all() for v in (*vectors, step.action, rewards[i])):
            break
        steps.append(step)
        state.append(vectors[0])
        objects.append(vectors[1])
        if before is not None:      # the images of the last Step go with no action
            for camera in cameras:
                key, image = f'observation.images.{camera}', before[f'image_{camera}']
                images[key].append(_png(image))
                histograms[key] += histogram(image)
        before = seen
    count = max(0, len(steps) - 1)
    ends = np.arange(count) == count - 1
    after = np.asarray(rewards, np.float32)[1:count + 1]
    values = {
        'observation.state': np.array(state[:count]), objects_key(observation): np.array(objects[:count]),
        'action': np.array([s.action for s in steps[:count]]),
        'next.reward': after[:, [tasks.index(MAIN_TASK)]], 'next.rewards': after,
        'next.done': ends[:, None], 'next.truncated': (ends & bool(steps and steps[-1].discount))[:, None],
        'next.success': after[:, [tasks.index(MAIN_TASK)]] >= 1.0,
        'stamp_ns': np.array([[s.stamp] for s in steps[:count]]),
        'stream_stamps_ns': np.array([[s.stamps[n] for n in streams] for s in steps[:count]]),
        'timestamp': (np.arange(count) / FPS).astype(np.float32)[:, None], 'frame_index': np.arange(count)[:, None]}
    names = episode.record.tasks
    acting = [text(names[s.task]) if s.task < len(names) else f'task {s.task}' for s in steps[:count]]
    return Columns(values, acting, images, histograms)


def text(value: object) -> str:
    """Text that UTF-8 can hold, of what a bag says."""
    return str(value).encode('utf-8', 'replace').decode('utf-8')


def _png(image: np.ndarray) -> bytes:
    import cv2      # only those who export images need it

    ok, data = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not ok:
        raise ValueError('an image could not be compressed')
    return data.tobytes()
