# SPDX-License-Identifier: Apache-2.0
"""The scripted scene behind `synthetic`: samples of every stream as functions of time, and their messages."""

from __future__ import annotations

import numpy as np

from chef_task import geometry
from chef_task.messages import decode
from chef_task.observation import PINCH_FROM_TCP
from chef_task.rewards import BASKET_FLOOR_M, OBJECT_SIZE_M
from chef_task.spaces import CAMERAS, GRASP_INWARD, GRASP_NONE, IMAGE_SHAPE, JOINTS, Stream

_NEUTRAL_RAD = np.array([0.0, -0.5, 0.0, 1.4, 0.0, 0.7, 1.57])
_DOWN = np.array([0.0, 1.0, 0.0, 0.0])           # w x y z, the tool pointing down
_TCP_FROM_PINCH = geometry.inverse(PINCH_FROM_TCP)
_FRAMES = {'wrench': 'wrist_ft', 'gripper': 'gripper'}
_COLOURS = np.array([[200, 40, 40], [40, 170, 60], [50, 80, 210]], np.uint8)
# Fractions of the episode: over red, at red, grasped, lifted, over blue, released, gone.
_KEYS = np.array([0.0, 0.2, 0.28, 0.36, 0.55, 0.68, 0.74, 0.9])


class Scene:
    """Samples by stream and time, with time in control steps since the episode's start.

    Args:
      rng: decides the objects' places and all noise.
      steps: length of the script.
      force_stop: the wrist force goes through 20 N at the end.
      pictures: uint8 [steps + 1, cameras, H, W, 3] to show instead of the scene, one a Step.
    """

    def __init__(self, rng: np.random.Generator, steps: int, force_stop: bool = False,
                 pictures: np.ndarray | None = None):
        self._pictures = pictures
        self._rng, self._steps, self._force_stop = rng, max(1, steps), force_stop
        centre, half = np.array([0.6, 0.0]), OBJECT_SIZE_M / 2
        angles = rng.uniform(0, 2 * np.pi) + np.arange(3) * 2 * np.pi / 3
        xy = centre + 0.07 * np.stack([np.cos(angles), np.sin(angles)], -1)
        self._objects = np.concatenate([xy, np.full((3, 1), BASKET_FLOOR_M + half)], -1)
        red, blue = self._objects[0], self._objects[2]
        up, top = np.array([0, 0, 0.12]), blue + np.array([0, 0, OBJECT_SIZE_M])
        self._path = np.stack([red + 1.5 * up, red + up, red, red, red + up, top, top, top + 1.2 * up])
        shade = np.linspace(70, 110, IMAGE_SHAPE[0], dtype=np.uint8)
        self._background = np.broadcast_to(shade[:, None, None], IMAGE_SHAPE)

    def _phase(self, t: float) -> float:
        return float(np.clip(t / self._steps, 0.0, 1.0))

    def _tool(self, t: float) -> np.ndarray:
        """Position of the pinch point, m."""
        return np.array([np.interp(self._phase(t), _KEYS, self._path[:, i]) for i in range(3)])

    def _held(self, t: float) -> bool:
        return 0.36 <= self._phase(t) < 0.70

    def _red(self, t: float) -> np.ndarray:
        if self._held(t):
            return self._tool(t)
        return self._path[5] if self._phase(t) >= 0.70 else self._objects[0]

    def action(self, i: int) -> np.ndarray:
        """float32 [5] in [-1, 1], along the script; the wrist turns at random."""
        velocity = (self._tool(i + 1) - self._tool(i)) * 20 / 0.07
        wrist = self._rng.uniform(-0.2, 0.2)
        grip = 1.0 if 0.28 <= self._phase(i) < 0.70 else -1.0
        return np.clip([*velocity, wrist, grip], -1, 1).astype(np.float32)

    def sample(self, name: str, t: float) -> dict[str, np.ndarray]:
        """One sample of the stream, fields as in `spaces.STREAMS`."""
        rng, phase = self._rng, self._phase(t)
        if name == 'joints':
            swing = 0.15 * np.sin(2 * np.pi * (phase + np.arange(7) / 7))
            return {'position': _NEUTRAL_RAD + swing, 'velocity': rng.normal(0, 0.05, 7),
                    'effort': rng.normal(0, 2, 7)}
        if name == 'tcp_pose':
            return {'pose': geometry.compose(np.concatenate([self._tool(t), _DOWN]), _TCP_FROM_PINCH)}
        if name == 'tcp_twist':
            velocity = (self._tool(t + 0.5) - self._tool(t - 0.5)) * 20
            return {'twist': np.concatenate([velocity, np.zeros(3)])}
        if name == 'gripper':
            closed = np.interp(phase, [0.28, 0.36, 0.68, 0.74], [0, 150, 150, 0])
            grasp = GRASP_INWARD if self._held(t) else GRASP_NONE
            return {'position': np.array([closed]), 'velocity': np.zeros(1), 'grasp': np.array([grasp])}
        if name == 'wrench':
            contact = 9.0 * sum(np.exp(-((phase - c) / 0.02) ** 2) for c in (0.3, 0.69))
            noise = rng.normal(0, 0.4, 3)
            if self._force_stop and t >= self._steps - 0.25:    # at 100 Hz some sample is that young
                contact, noise = 20.5, np.zeros(3)
            return {'force': np.array([0, 0, contact]) + noise, 'torque': rng.normal(0, 0.05, 3)}
        if name == 'objects':
            positions = np.stack([self._red(t), *self._objects[1:]])
            return {'poses': np.concatenate([positions, np.tile([1.0, 0, 0, 0], (3, 1))], -1)}
        return {'image': self._image(CAMERAS.index(name), t)}

    def _image(self, camera: int, t: float) -> np.ndarray:
        """A rough oblique view: three squares, the gripper as a dark bar, and noise; or the given picture."""
        if self._pictures is not None:      # what is captured before the tick of Step k is Step k's
            return self._pictures[int(np.clip(np.ceil(t), 0, len(self._pictures) - 1)), camera]
        image = self._background + self._rng.integers(0, 24, IMAGE_SHAPE, np.uint8)
        side = -1 if camera == 1 else 1
        far = -1 if camera == 2 else 1

        def at(p):
            u = 64 + side * far * (p[1]) * 480
            v = 78 + far * (p[0] - 0.6) * 180 - (p[2] - BASKET_FLOOR_M) * 330
            return int(np.clip(u, 9, 118)), int(np.clip(v, 9, 118))

        u, v = at(self._tool(t))
        image[:v, u - 4:u + 5] = (30, 30, 34)
        for place, colour in zip([self._red(t), *self._objects[1:]], _COLOURS):
            u, v = at(place)
            image[v - 8:v + 9, u - 8:u + 9] = colour
        return image


def encode(store, stream: Stream, stamp_ns: int, sample: dict):
    """The sample as the stream's message, made with a rosbags typestore, and as the message reads back.

    Returns:
      (message, sample): registers are rounded to what the message can hold; images are as given.
    """
    t = store.types
    header = t['std_msgs/msg/Header'](
        t['builtin_interfaces/msg/Time'](stamp_ns // 1_000_000_000, stamp_ns % 1_000_000_000),
        f'{stream.name}_optical' if stream.is_image else _FRAMES.get(stream.name, 'base'))

    def vector(v):
        return t['geometry_msgs/msg/Vector3'](*map(float, v))

    def pose(p):
        x, y, z, qw, qx, qy, qz = map(float, p)
        return t['geometry_msgs/msg/Pose'](
            t['geometry_msgs/msg/Point'](x, y, z), t['geometry_msgs/msg/Quaternion'](qx, qy, qz, qw))

    kind = t[stream.msgtype]
    if stream.is_image:
        height, width, _ = sample['image'].shape
        return kind(header, height, width, 'rgb8', 0, 3 * width, sample['image'].reshape(-1)), sample
    if stream.name == 'joints':
        message = kind(header, list(JOINTS), sample['position'], sample['velocity'], sample['effort'])
    elif stream.name == 'tcp_pose':
        message = kind(header, pose(sample['pose']))
    elif stream.name == 'tcp_twist':
        message = kind(header, t['geometry_msgs/msg/Twist'](
            vector(sample['twist'][:3]), vector(sample['twist'][3:])))
    elif stream.name == 'gripper':
        message = kind(header, int(sample['position'][0]), float(np.float32(sample['velocity'][0])),
                       int(sample['grasp'][0]))
    elif stream.name == 'wrench':
        message = kind(header, t['geometry_msgs/msg/Wrench'](
            vector(sample['force']), vector(sample['torque'])))
    else:
        message = kind(header, [pose(p) for p in sample['poses']])
    return message, decode(stream, message)
