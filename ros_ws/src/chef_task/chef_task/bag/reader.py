# SPDX-License-Identifier: Apache-2.0
"""Reads an episode back from its bag: records, steps with the very samples they name, series, rewards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chef_task import messages, observation, rewards
from chef_task.bag import codec, files
from chef_task.bag.definitions import typestore_of
from chef_task.bag.errors import BagError
from chef_task.bag.summary import INFO, Tally, step_record
from chef_task.episode_file import EpisodeFile
from chef_task.messages import Sample
from chef_task.records import EpisodeRecord, StepRecord
from chef_task.spaces import CAMERAS, STREAMS, Stream


@dataclass(frozen=True)
class Series:
    """A whole stream: capture stamps int64 [N], ns, ascending; field name to values [N, *shape]."""

    stamps: np.ndarray
    values: dict[str, np.ndarray]


class Episode:
    """One episode's bag, read lazily; holds no open file.

    Messages that were read stay in memory (a 400-step episode with raw images: 60 MB), so read one episode at a time.
    Every method raises BagError where the bag is damaged.
    """

    def __init__(self, path: Path, record: EpisodeRecord, schedule: tuple[tuple[int, int], ...]):
        raise TypeError('use Episode.open(path)')

    @classmethod
    def open(cls, path: Path | str) -> Episode:
        """Opens a bag by its folder, or a file in it.

        Raises:
          BagError: missing, unsealed, unreadable, truncated, or not an episode (no EpisodeInfo).
        """
        self = object.__new__(cls)
        self.path = files.bag_folder(path)
        self._files = files.mcap_files(self.path)
        self._connections = files.connections(self.path, self._files)
        with files.one_error(self.path, 'a message definition is damaged'):
            self._store = typestore_of(tuple(sorted({
                (c.msgtype, c.msgdef.data) for c in self._connections if c.msgdef.data})))
        self._raw: dict[str, list[bytes]] = {}          # absolute topic to messages, log order
        self._index: dict[str, dict[int, tuple[str, bytes]]] = {}   # stream to stamp to (type, message)
        self._steps: list[StepRecord] | None = None
        topics = [c.topic for c in self._connections if c.msgtype == INFO]
        if not topics:
            raise BagError(f'{self.path}: not an episode: it has no EpisodeInfo')
        self._info_topic = topics[0]
        self.record: EpisodeRecord = self._make_record()
        return self

    # -- what the episode is

    def _make_record(self) -> EpisodeRecord:
        tally = Tally()
        for message in self._decoded(self._info_topic):
            tally.info(message)
        if tally.start is None and tally.end is None:
            raise BagError(f'{self.path}: not an episode: it has no EpisodeInfo')
        self._prefix = '/' + (tally.start or tally.end).cell.strip('/') + '/'
        if tally.end is None:
            # the recorder sealed what a lost episode node left: its summary knows the reason
            try:
                return files.quick_summary(self.path)
            except BagError:
                for message in self._decoded(self.topic('step')):
                    tally.step(message)
                for message in self._decoded(self.topic(STREAMS['wrench'].topic)):
                    tally.wrench(message)
        with files.one_error(self.path, 'its EpisodeInfo is damaged'):
            return tally.record()

    @property
    def observation(self) -> str:
        """'pixels' if every camera was recorded, else 'state'."""
        return 'pixels' if all(self.has(c) for c in CAMERAS) else 'state'

    @property
    def image_codec(self) -> str:
        """Name of the codec that images were recorded with, see `bag.codec`."""
        return str(self.record.metadata.get(codec.KEY, 'raw'))

    def schedule(self) -> list[tuple[int, str]]:
        """(index of its first step, task) of every change of the acting task."""
        return schedule_of(self.steps(), self.record.tasks)

    # -- topics

    def has(self, name: str) -> bool:
        """Whether a stream (by name) or a topic (relative or absolute) was recorded."""
        return self._find(name) is not None

    def topic(self, name: str) -> str:
        """The absolute topic of a stream or of a relative topic; BagError if it was not recorded.

        A topic of the episode's own cell goes first, then the only one that ends so. Of an image stream it
        may be the one with the encoded images.
        """
        found = self._find(name)
        if found is None:
            raise BagError(f'{self.path}: has no topic {name!r}')
        return found

    def _find(self, name: str) -> str | None:
        found = self._topics_of(name)
        return found[0] if found else None

    def _topics_of(self, name: str) -> list[str]:
        """The topics that hold a stream or are a topic: images may be in two, as sent and encoded."""
        relative = STREAMS[name].topic if name in STREAMS else name
        wanted = [relative]
        if name in STREAMS and STREAMS[name].is_image:
            wanted.append(codec.compressed_topic(relative))
        return [topic for topic in map(self._find_topic, wanted) if topic is not None]

    def _find_topic(self, relative: str) -> str | None:
        names = {c.topic for c in self._connections}
        for candidate in (relative, self._prefix + relative):
            if candidate in names:
                return candidate
        ending = [t for t in sorted(names) if t.endswith('/' + relative.lstrip('/'))]
        return ending[0] if len(ending) == 1 else None

    def topics(self) -> dict[str, tuple[str, int]]:
        """Absolute topic to (message type, number of messages)."""
        return {c.topic: (c.msgtype, c.msgcount) for c in self._connections}

    def messages(self, name: str) -> Iterator[tuple[int, object]]:
        """(log time in ns, decoded message) of any topic, in log order; not kept in memory."""
        topic = self.topic(name)
        for c, log_ns, data in files.raw_messages(self.path, self._files, lambda c: c.topic == topic):
            yield log_ns, self._decode(topic, c.msgtype, data)

    def _decode(self, topic: str, msgtype: str, data: bytes):
        with files.one_error(self.path, f'{topic}: a message is damaged'):
            return self._store.deserialize_cdr(data, msgtype)

    def _load(self, topics: set[str]) -> None:
        """Reads the messages of several topics in one pass over the file."""
        missing = topics - set(self._raw)
        if not missing:
            return
        found: dict[str, list[bytes]] = {t: [] for t in missing}
        for c, _, data in files.raw_messages(self.path, self._files, lambda c: c.topic in missing):
            found[c.topic].append(data)
        self._raw.update(found)

    def _decoded(self, topic: str) -> list:
        self._load({topic})
        msgtype = self.topics()[topic][0]
        return [self._decode(topic, msgtype, data) for data in self._raw[topic]]

    # -- steps and their samples

    def steps(self) -> list[StepRecord]:
        """Every Step, by index; the last one is the state in which the episode ended.

        Raises:
          BagError: no steps, or indices with gaps.
        """
        if self._steps is None:
            with files.one_error(self.path, 'a Step is damaged'):
                steps = sorted((step_record(m) for m in self._decoded(self.topic('step'))),
                               key=lambda s: s.index)
            if [s.index for s in steps] != list(range(len(steps))):
                raise BagError(f'{self.path}: the indices of its Steps have gaps or repeat')
            self._steps = steps
        return self._steps

    def samples(self, step: StepRecord, streams: tuple[str, ...] | None = None) -> dict[str, Sample]:
        """The samples that a Step names, stream to sample as `messages.decode` gives it.

        Args:
          step: one of `steps()`.
          streams: only these of them; all if not given.

        Raises:
          BagError: a stamp has no message; names the stream and the stamp.
        """
        out = {}
        for name in (step.stamps if streams is None else streams):
            if name not in STREAMS or name not in step.stamps:
                raise BagError(f'{self.path}: step {step.index} names no stream {name!r} that is known')
            data = self._stamped(name).get(step.stamps[name])
            if data is None:
                raise BagError(f'{self.path}: step {step.index}: no message of {name} is stamped '
                               f'{step.stamps[name]} ns')
            out[name] = self._sample(STREAMS[name], *data)
        return out

    def iterate(self, streams: tuple[str, ...] | None = None,
                ) -> Iterator[tuple[StepRecord, dict[str, Sample]]]:
        """(Step, its samples) in order, from one pass over the file; arguments as in `samples`."""
        named = STREAMS if streams is None else streams
        self._load({self.topic('step')}.union(*map(self._topics_of, named)))
        for step in self.steps():
            yield step, self.samples(step, streams)

    def features(self) -> Iterator[tuple[StepRecord, dict[str, np.ndarray]]]:
        """(Step, its single-step features as in `observation.FIELDS`) in order."""
        for step, samples in self.iterate():
            with files.one_error(self.path, f'step {step.index} names no sample of a stream that is needed'):
                features = observation.features(samples, step.last_action)
            yield step, features

    def _stamped(self, name: str) -> dict[int, tuple[str, bytes]]:
        if name not in self._index:
            topics, known = self._topics_of(name) or [self.topic(name)], self.topics()
            self._load(set(topics))
            with files.one_error(self.path, f'{topics[0]}: a message is damaged'):
                self._index[name] = {messages.serialized_stamp_ns(data): (known[topic][0], data)
                                     for topic in topics for data in self._raw[topic]}
        return self._index[name]

    def _sample(self, stream: Stream, msgtype: str, data: bytes) -> Sample:
        with files.one_error(self.path, f'{stream.topic}: a message is damaged'):
            message = self._store.deserialize_cdr(data, msgtype)
            return messages.decode(stream, codec.as_image(message) if msgtype == codec.COMPRESSED else message)

    # -- whole streams

    def series(self, stream: str) -> Series:
        """A whole stream at its native rate, by capture stamp (not for cameras: see `images`).

        Raises:
          BagError: not recorded, or without a message.
        """
        if stream not in STREAMS:
            raise BagError(f'{self.path}: {stream!r} is no stream, known are {", ".join(STREAMS)}')
        index = self._stamped(stream)
        if not index:
            raise BagError(f'{self.path}: {self.topic(stream)} has no message')
        stamps = np.array(sorted(index), np.int64)
        samples = [self._sample(STREAMS[stream], *index[s]) for s in stamps.tolist()]
        return Series(stamps, {f: np.stack([s[f] for s in samples]) for f in STREAMS[stream].fields})

    def images(self, camera: str) -> Iterator[tuple[int, np.ndarray]]:
        """(capture stamp in ns, uint8 [H, W, 3] rgb) of every frame of a camera, not kept in memory."""
        topics = self._topics_of(camera) or [self.topic(camera)]
        for c, _, data in files.raw_messages(self.path, self._files, lambda c: c.topic in topics):
            with files.one_error(self.path, f'{c.topic}: a message is damaged'):
                stamp = messages.serialized_stamp_ns(data)
            yield stamp, self._sample(STREAMS[camera], c.msgtype, data)['image']


def schedule_of(steps: Sequence[StepRecord], tasks: Sequence[str]) -> list[tuple[int, str]]:
    """(index of its first step, task) of every change of the acting task."""
    out: list[tuple[int, str]] = []
    for s in steps:
        name = tasks[s.task] if 0 <= s.task < len(tasks) else f'task {s.task}'
        if not s.last and (not out or out[-1][1] != name):
            out.append((s.index, name))
    return out


def recompute_rewards(episode: Episode | EpisodeFile) -> np.ndarray:
    """The rewards of all Steps, float32 [N, tasks], computed anew from the samples they name."""
    streams = ('tcp_pose', 'gripper', 'objects')
    inputs = [observation.reward_inputs(samples) for _, samples in episode.iterate(streams)]
    if not inputs:
        raise BagError(f'{episode.path}: has no Steps')
    fields = [f.name for f in dataclasses.fields(rewards.RewardInputs)]
    return rewards.rewards(rewards.RewardInputs(
        **{f: np.stack([getattr(x, f) for x in inputs]) for f in fields}))


def read_summary(path: Path | str) -> EpisodeRecord:
    """The episode's record, from metadata.yaml where it is there, else from the messages.

    Raises:
      BagError: as `Episode.open`, or a truncated MCAP.
    """
    folder = files.bag_folder(path)
    try:
        return files.quick_summary(folder)
    except BagError:
        return Episode.open(folder).record
