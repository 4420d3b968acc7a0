# SPDX-License-Identifier: Apache-2.0
"""Simulated episodes in one file to sealed bags, and bags to files."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from chef_task import episode_file, observation
from chef_task.bag.codec import encoder
from chef_task.bag.definitions import typestore
from chef_task.bag.episode_messages import EpisodeMessages
from chef_task.bag.errors import AuditError, BagError
from chef_task.bag.files import find_episodes, find_files, one_error
from chef_task.bag.qos import SENSOR, TopicQos
from chef_task.bag.reader import Episode, read_summary
from chef_task.bag.synthetic_samples import encode
from chef_task.bag.writer import BagWriter
from chef_task.episode_file import SUFFIX, EpisodeFile
from chef_task.messages import Sample
from chef_task.records import StepRecord
from chef_task.spaces import STREAMS, streams_of

KINDS = ('bag', 'file')
IMAGE_CODEC = 'png'
_SAMPLED_NS, _ANNOUNCED_NS, _ENDED_NS = 400_000, 1_000_000, 10_000_000     # after a stamp, as a graph logs them


class AlreadyThere(BagError):
    """What would be made is there; it was left as it is."""


def sources(path: Path, make: str = '') -> list[Path]:
    """The bag or file, or all below a folder, of which something is to be made.

    Args:
      make: one of KINDS, to take only what is of the other kind; without it a folder must not hold both.

    Raises:
      BagError: there is none, or there are both.
    """
    if not path.exists():
        raise BagError(f'{path}: no bag or file of an episode is there')
    found = {'bag': find_files(path), 'file': find_episodes(path) if path.is_dir() else []}
    if not make and all(found.values()):
        raise BagError(f'{path}: holds {len(found["file"])} bags and {len(found["bag"])} files of episodes: '
                       'say what to make, --as bag or --as file')
    chosen = found[make] if make else found['bag'] + found['file']
    if not chosen:
        wanted = {'bag': 'file', 'file': 'bag'}.get(make, 'bag or file')
        raise BagError(f'{path}: no {wanted} of an episode is there')
    return chosen


def convert(source: Path, folder: Path) -> Path:
    """A bag of a file, or a file of a bag, in a folder; returns its path.

    Raises:
      AlreadyThere: the target is there.
      BagError, EpisodeFileError: the source is damaged or lacks something, or the disk refuses the bag.
      OSError: the disk refuses the file. Nothing is left in all these cases.
    """
    if source.suffix == SUFFIX:
        _target(folder, source, episode_file.read_record(source).episode_id)
        return to_bag(EpisodeFile(source), folder)
    _target(folder, source, read_summary(source).episode_id, SUFFIX)
    return to_file(Episode.open(source), folder)


def _target(folder: Path, source: Path, name: str, suffix: str = '') -> Path:
    """Where to write; the name is what the source says: it must not lead out of the folder."""
    if not name or name.startswith('.') or '/' in name or not name.isprintable():
        raise BagError(f'{source}: its id {name!r} cannot name anything')
    path = folder / f'{name}{suffix}'
    if path.exists():
        raise AlreadyThere(f'{path} is there already')
    return path


def to_file(episode: Episode, folder: Path) -> Path:
    """Of every Step the samples that it names; errors as of `convert`.

    What was recorded between two ticks stays in the bag, and so do the stamps of a run in real time: a file's are
    those of lockstep.
    """
    path = _target(folder, episode.path, episode.record.episode_id, SUFFIX)
    steps, tasks = episode.steps(), len(episode.record.tasks)
    if [s.index for s in steps if s.last] != [episode.record.steps] or len(steps) != episode.record.steps + 1:
        raise BagError(f'{episode.path}: was cut short: a file needs the last Step, and all before it')
    if any(s.rewards.shape != (tasks,) for s in steps):
        raise BagError(f'{episode.path}: its Steps do not have the rewards of its {tasks} tasks')
    with one_error(episode.path, 'cannot be a file'):
        samples = [s for _, s in episode.iterate(streams_of(episode.observation))]
        features = [observation.features(s, step.last_action) for step, s in zip(steps, samples)]
    record = dataclasses.replace(episode.record, start_ns=steps[0].stamp)     # from which a file counts stamps
    episode_file.write(path, record, episode.observation, steps, features, samples)
    return path


def to_bag(episode: EpisodeFile, folder: Path, msg_dir: Path | str | None = None) -> Path:
    """A sealed bag with one sample of every stream a tick, in standard messages; errors as of `convert`."""
    record, store = episode.record, typestore(msg_dir)
    _target(folder, episode.path, record.episode_id)
    pairs = list(zip(episode.iterate(), episode.features(), strict=True))
    with one_error(episode.path, 'cannot be a bag'):        # before anything is written
        events = [(at, topic, msgtype, bytes(store.serialize_cdr(message, msgtype)))
                  for at, topic, msgtype, message in sorted(_events(episode, pairs, store), key=lambda e: e[0])]
    prefix = f'/{record.cell.strip("/")}/'
    qos = {prefix + STREAMS[n].topic: SENSOR for n in streams_of(episode.observation)}
    encode_image = encoder(IMAGE_CODEC, msg_dir)
    writer = BagWriter(folder, record.episode_id, qos=qos, msg_dir=msg_dir)
    try:
        for log_ns, relative, msgtype, data in events:
            topic, msgtype, data = encode_image(prefix + relative, msgtype, data)
            writer.add_topic(topic, msgtype, qos.get(prefix + relative, TopicQos()))
            writer.write(topic, msgtype, data, log_ns, log_ns)
        return writer.seal(reason=record.termination_reason, quarantine=False)
    except AuditError as e:
        raise BagError(f'{episode.path}: cannot be a bag: {"; ".join(e.faults)}') from None
    finally:
        writer.abandon()
        shutil.rmtree(writer.partial, ignore_errors=True)     # which is not there once the bag is sealed


def _events(episode: EpisodeFile, pairs, store) -> list[tuple[int, str, str, object]]:
    """All messages as (log time, relative topic, type, message).

    Args:
      pairs: ((Step, samples), (Step, features)) of every Step.
    """
    record, make = episode.record, EpisodeMessages(store, episode.record.episode_id)
    about = {**record.metadata, 'observation': episode.observation, 'converted_from': episode.path.name}
    common = (record.episode_id, record.cell, record.triplet, record.seed, list(record.tasks), json.dumps(about))
    start = make.info(record.start_ns, 0, *common, '', 0, '', False, 0.0, np.zeros(0))
    events = [(start[0] - _ANNOUNCED_NS, *start[1:])]
    for (step, samples), (_, features) in pairs:
        sent = {}
        for name, sample in samples.items():
            stream = STREAMS[name]
            message, sent[name] = encode(store, stream, step.stamp, sample)
            events.append((step.stamp + _SAMPLED_NS, stream.topic, stream.msgtype, message))
        wrong = differing(step, sent, features)
        if wrong:
            raise ValueError(f'step {step.index}: its {wrong} does not follow from the samples kept')
        events += make.step(step.index, step.stamp, step.stamps, step.last_action, step.action, step.task,
                            step.policy_version, record.tasks, step.rewards, step.last, step.discount)
    end = make.info(record.end_ns, 1, *common, record.policy_version, record.steps, record.termination_reason,
                    record.success, record.peak_force_n, record.returns)
    return [*events, (step.stamp + _ENDED_NS, *end[1:])]


def differing(step: StepRecord, samples: Mapping[str, Sample], features: Mapping[str, np.ndarray]) -> str:
    """The first feature that is not, bit for bit, the one that the samples give; '' if all are."""
    built = observation.features(samples, step.last_action)
    return next((k for k, v in features.items() if built[k].dtype != v.dtype or built[k].tobytes() != v.tobytes()), '')
