# SPDX-License-Identifier: Apache-2.0
"""Made-up episodes in real bags, for tests and examples only; nothing here was measured or simulated.

The tool follows a script (approach red, grasp, lift, place on blue, leave), so that rewards, forces and
pictures change as they do in an episode. Rewards are computed from the samples that the Steps name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from chef_task.bag.codec import encoder
from chef_task.bag.definitions import typestore
from chef_task.bag.episode_messages import EpisodeMessages
from chef_task.bag.qos import SENSOR, TopicQos
from chef_task.bag.synthetic_samples import Scene, encode
from chef_task.bag.writer import BagWriter
from chef_task.limits import Limits
from chef_task.observation import reward_inputs
from chef_task.records import Reason
from chef_task.rewards import TASKS, rewards
from chef_task.spaces import ACTION_SIZE, CAMERAS, CONTROL_PERIOD_NS, EPISODE_STEPS, STREAMS, streams_of

# 20:55 UTC on 23 November 2026, between two whole seconds so that nothing may rely on round stamps
START_NS = 1_795_467_300_123_456_000
RATES_HZ = {'joints': 100, 'tcp_pose': 100, 'tcp_twist': 100, 'gripper': 50, 'wrench': 100, 'objects': 20,
            **{c: 20 for c in CAMERAS}}


def episode_id_of(start_ns: int, cell: str, number: int) -> str:
    """`20261123T205500_123456_cell_1_000001`: UTC start, cell, number; sorts by time."""
    t = datetime.fromtimestamp(start_ns // 1_000_000_000, timezone.utc)
    return f'{t:%Y%m%dT%H%M%S}_{start_ns // 1000 % 1_000_000:06d}_{cell}_{number:06d}'


def write_synthetic_episode(
        folder: Path | str, seed: int = 0, steps: int = EPISODE_STEPS, observation: str = 'pixels', *,
        cell: str = 'cell_1', triplet: int = 1, policy_version: str = 'v000001', number: int | None = None,
        reason: str = Reason.TIME_LIMIT.value, tasks: tuple[str, ...] = TASKS, end_message: bool = True,
        image_codec: str = 'raw', pictures: np.ndarray | None = None,
        msg_dir: Path | str | None = None, asked: Mapping[str, Any] | None = None) -> Path:
    """Writes a sealed bag with a made-up episode, for tests and examples.

    Args:
      folder: to write the bag in, usually `<run>/episodes`.
      seed: of everything random; the same arguments give the same messages.
      steps: actions taken; the bag holds one Step more, the last. At least 1.
      observation: 'pixels' (with camera streams) or 'state' (without).
      number: of the episode in its name and start time; `seed` if not given.
      reason: why it ended; a `force_limit` ends with 20.5 N and discount 0.
      tasks: names of the six rewards.
      end_message: whether the END is recorded; without, the recorder's own summary is sealed.
      image_codec: how images are stored, see `codec`.
      pictures: what the cameras see at each Step, uint8 [steps + 1, cameras, H, W, 3], cameras as in `spaces.CAMERAS`;
        None: the made-up scene.
      asked: what an experiment asked for, see `chef_task.orders`; its `stage` goes into the name.

    Returns:
      The path of the bag, `<folder>/<episode_id>`.
    """
    number = seed if number is None else number
    start = START_NS + number * 60_000_000_000
    episode_id = episode_id_of(start, f'{cell}_{asked["stage"]}' if asked else cell, number)
    store = typestore(msg_dir)
    rng = np.random.default_rng(seed)
    scene = Scene(rng, steps, force_stop=Reason.of(reason).terminates, pictures=pictures)
    names = streams_of(observation)
    events: list[tuple[int, str, str, object]] = []      # log time, relative topic, type, message
    samples = _record_streams(events, store, scene, names, start, steps, rng)
    info, last_step, returns = EpisodeMessages(store, episode_id), None, np.zeros(len(tasks))
    schedule = rng.permutation(len(tasks))
    last_action = np.zeros(ACTION_SIZE, np.float32)
    for i in range(steps + 1):
        tick = start + i * CONTROL_PERIOD_NS
        picked = {n: _newest(samples[n], tick) for n in names}
        inputs = reward_inputs({n: s for n, (_, s) in picked.items() if not STREAMS[n].is_image})
        values = rewards(inputs)
        returns = returns + values
        last = i == steps
        action = np.zeros(ACTION_SIZE, np.float32) if last else scene.action(i)
        task = int(schedule[i * 4 // (steps + 1)])
        stamps = {n: stamp for n, (stamp, _) in picked.items()}
        events += info.step(i, tick, stamps, last_action, action, task, policy_version, tasks, values, last,
                            discount=0.0 if last and Reason.of(reason).terminates else 1.0)
        last_action, last_step = action, (tick, values)
    meta = json.dumps({'limits': Limits().to_dict(), 'software_version': '0.1.0', 'synthetic': True,
                       'observation': observation, **({'asked': dict(asked)} if asked else {})})
    common = (episode_id, cell, triplet, seed, list(tasks), meta)
    events.append(info.info(start - 1_000_000, 0, *common, '', 0, '', False, 0.0, np.zeros(0)))
    end_ns, values = last_step
    if end_message:
        success = bool(values[-1] == 1.0) and Reason.of(reason) is Reason.TIME_LIMIT
        events.append(info.info(end_ns + 5_000_000, 1, *common, policy_version, steps, reason, success,
                                max(np.linalg.norm(s['force']) for _, s in samples['wrench']), returns))
    qos = {f'/{cell}/{STREAMS[n].topic}': SENSOR for n in names}
    encode_image = encoder(image_codec, msg_dir)
    writer = BagWriter(folder, episode_id, qos=qos, msg_dir=msg_dir)
    for t, topic, msgtype, message in sorted(events, key=lambda e: e[0]):
        message = f'/{cell}/{topic}', msgtype, bytes(store.serialize_cdr(message, msgtype))
        topic, msgtype, data = encode_image(*message) if encode_image else message
        writer.add_topic(topic, msgtype, qos.get(message[0], TopicQos()))
        writer.write(topic, msgtype, data, t, t - 300_000)
    return writer.seal(reason=reason)


def _newest(samples, tick):
    """The newest (stamp, sample) not younger than the tick."""
    stamps = [s for s, _ in samples]
    return samples[int(np.searchsorted(stamps, tick, 'right')) - 1]


def _record_streams(events, store, scene, names, start, steps, rng):
    """Appends every stream's messages at its native rate; returns name -> [(stamp, sample)]."""
    out = {}
    for name in names:
        period = 1_000_000_000 // RATES_HZ[name]
        offset = int(rng.integers(1_000_000, min(period, 9_000_000)))
        first = start - 2 * CONTROL_PERIOD_NS - offset
        count = (start + steps * CONTROL_PERIOD_NS - first) // period + 1
        out[name] = series = []
        for i in range(count):
            stamp = first + i * period
            sample = scene.sample(name, (stamp - start) / CONTROL_PERIOD_NS)
            stream = STREAMS[name]
            # what a message holds may be rounder than the sample: rewards are of what was sent
            message, sample = encode(store, stream, stamp, sample)
            events.append((stamp + 400_000, stream.topic, stream.msgtype, message))
            series.append((stamp, sample))
    return out
