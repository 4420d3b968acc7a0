# SPDX-License-Identifier: Apache-2.0
"""Simulated episodes in one file to sealed bags, and bags to files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from chef_task import episode_file, observation
from chef_task.bag.codec import encoder
from chef_task.bag.definitions import typestore
from chef_task.bag.episode_messages import EpisodeMessages
from chef_task.bag.errors import BagError
from chef_task.bag.files import find_episodes
from chef_task.bag.qos import SENSOR, TopicQos
from chef_task.bag.reader import Episode
from chef_task.bag.synthetic_samples import encode
from chef_task.bag.writer import BagWriter
from chef_task.episode_file import SUFFIX, EpisodeFile
from chef_task.spaces import STREAMS, streams_of

IMAGE_CODEC = 'png'
_SAMPLED_NS, _ANNOUNCED_NS, _ENDED_NS = 400_000, 1_000_000, 5_000_000     # after a stamp, as a graph logs them


def sources(path: Path) -> list[Path]:
    """The bag or file, or all below a folder; BagError if there is none."""
    if path.suffix == SUFFIX:
        return [path]
    folders = [p for p in (path, path / 'episodes') if p.is_dir()]
    found = [*find_episodes(path), *(f for folder in folders for f in episode_file.find(folder))] if folders else []
    if not found:
        raise BagError(f'{path}: no bag or file of an episode is there')
    return found


def convert(source: Path, folder: Path) -> Path:
    """A bag of a file, or a file of a bag, in a folder; returns its path.

    Raises:
      BagError, EpisodeFileError: the source is damaged or lacks something, or the target exists.
      OSError: the disk refuses. Nothing is left then.
    """
    return to_bag(EpisodeFile(source), folder) if source.suffix == SUFFIX else to_file(Episode.open(source), folder)


def to_file(episode: Episode, folder: Path) -> Path:
    """Of every Step the samples that it names.

    What was recorded between two ticks stays in the bag, and so do the stamps of a run in real time: a file's are those of
    lockstep.
    """
    path = folder / f'{episode.record.episode_id}{SUFFIX}'
    if path.exists():
        raise BagError(f'{path} exists already')
    steps, samples = zip(*episode.iterate())
    features = [observation.features(s, step.last_action) for step, s in zip(steps, samples)]
    episode_file.write(path, episode.record, episode.observation, steps, features, samples)
    return path


def to_bag(episode: EpisodeFile, folder: Path, msg_dir: Path | str | None = None) -> Path:
    """A sealed bag with one sample of every stream a tick, in standard messages."""
    record, store = episode.record, typestore(msg_dir)
    pairs = list(episode.iterate())     # before anything is written: the file may lack what that needs
    make, names = EpisodeMessages(store, record.episode_id), streams_of(episode.observation)
    about = {**record.metadata, 'observation': episode.observation, 'converted_from': episode.path.name}
    common = (record.episode_id, record.cell, record.triplet, record.seed, list(record.tasks), json.dumps(about))
    events = [make.info(record.start_ns - _ANNOUNCED_NS, 0, *common, '', 0, '', False, 0.0, np.zeros(0))]
    for step, samples in pairs:
        for name in names:
            stream = STREAMS[name]
            message, _ = encode(store, stream, step.stamp, samples[name])
            events.append((step.stamp + _SAMPLED_NS, stream.topic, stream.msgtype, message))
        events += make.step(step.index, step.stamp, step.stamps, step.last_action, step.action, step.task,
                            step.policy_version, record.tasks, step.rewards, step.last, step.discount)
    events.append(make.info(pairs[-1][0].stamp + 2 * _ENDED_NS, 1, *common, record.policy_version, record.steps,
                            record.termination_reason, record.success, record.peak_force_n, record.returns))
    prefix = f'/{record.cell}/'
    qos = {prefix + STREAMS[n].topic: SENSOR for n in names}
    encode_image = encoder(IMAGE_CODEC, msg_dir)
    writer = BagWriter(folder, record.episode_id, qos=qos, msg_dir=msg_dir)
    try:
        for log_ns, topic, msgtype, message in sorted(events, key=lambda e: e[0]):
            sent = prefix + topic, msgtype, bytes(store.serialize_cdr(message, msgtype))
            topic, msgtype, data = encode_image(*sent) if encode_image else sent
            writer.add_topic(topic, msgtype, qos.get(sent[0], TopicQos()))
            writer.write(topic, msgtype, data, log_ns, log_ns)
        return writer.seal(reason=record.termination_reason)
    except BaseException:
        writer.abandon()
        shutil.rmtree(writer.partial, ignore_errors=True)
        raise
