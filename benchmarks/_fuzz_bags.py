# SPDX-License-Identifier: Apache-2.0
"""Targets of `fuzz.py` that are bags: their bytes, their messages, their metadata, their folders, the commands."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import random
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import mcap.writer
import numpy as np
import yaml
from _fuzz_mutate import mutate_bytes, mutate_text, mutate_tree, text_of
from _fuzz_target import Target

from chef_task.bag import BagError, Episode, read_summary
from chef_task.bag.cli import main as bags
from chef_task.bag.definitions import definition, typestore
from chef_task.bag.qos import TopicQos
from chef_task.bag.files import find_bags, find_episodes
from chef_task.bag.reader import recompute_rewards
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.spaces import CAMERAS, STREAMS

_INTEGERS = (0, 1, -1, 3, 127, 255, 10**6, 2**31 - 1, -2**31, 2**32 - 1, 2**63 - 1)
_QOS = yaml.safe_dump([TopicQos().to_dict()])
_FLOATS = (0.0, -1.0, 1e-320, 1e308, float('nan'), float('inf'))


def read_everything(path: Path) -> None:
    """All that the learner and the tools read of a bag."""
    read_summary(path)
    episode = Episode.open(path)
    for _ in episode.features():
        pass
    episode.schedule()
    recompute_rewards(episode)
    for stream in STREAMS:
        if episode.has(stream):
            if stream in CAMERAS:
                for _ in episode.images(stream):
                    pass
            else:
                episode.series(stream)
    for name in ('tick', 'command'):
        if episode.has(name):
            for _ in episode.messages(name):
                pass


class BagBytes(Target):
    """Bytes of the MCAP file, with checksums and without."""

    errors = (BagError,)

    def __init__(self, folder: Path):
        super().__init__(folder)
        seed = write_synthetic_episode(folder / 'seed', 1, 2, 'state')
        pixels = write_synthetic_episode(folder / 'seed', 2, 1, 'pixels')
        self.bag = folder / 'run' / seed.name
        shutil.copytree(seed, self.bag)
        self.mcap = next(self.bag.glob('*.mcap'))
        self.named = self.bag.name
        self._other = next(pixels.glob('*.mcap')).read_bytes()[:100_000]
        messages = _messages(seed)
        self._valid = _mcap_of(messages)
        # what checksums keep from a reader must not harm it either
        self._unchecked = [_mcap_of(messages, compression, enable_crcs=False, enable_data_crcs=False)
                           for compression in mcap.writer.CompressionType]

    def make(self, rng: random.Random) -> None:
        data = self._valid if rng.random() < 0.3 else rng.choice(self._unchecked)
        # the index at the end steers the reader: half of the edits go there
        split = rng.choice((0, 0, len(data) - 3000, len(data) - 200))
        self.mcap.write_bytes(data[:split] + mutate_bytes(rng, data[split:], self._other))

    def load(self) -> None:
        read_everything(self.bag)


@dataclasses.dataclass
class Message:
    """One message with the channel it is on."""

    topic: str
    msgtype: str
    data: bytes
    log_ns: int


def _messages(path: Path) -> list[Message]:
    episode, store = Episode.open(path), typestore()
    out = [Message(topic, kind, bytes(store.serialize_cdr(m, kind)), t)
           for topic, (kind, _) in episode.topics().items() for t, m in episode.messages(topic)]
    return sorted(out, key=lambda m: m.log_ns)


@lru_cache
def _definition(msgtype: str) -> str:
    return definition(msgtype)[0]


def _mcap_of(messages: list[Message], compression=mcap.writer.CompressionType.NONE,
             edit: Callable[[str, str], str] = lambda what, text: text, **options) -> bytes:
    """A whole MCAP file; `edit` may change the texts in it: 'schema', 'type', 'topic', 'encoding', 'qos'."""
    file = io.BytesIO()
    writer = mcap.writer.Writer(file, 64 * 1024, compression, **options)
    writer.start(edit('profile', 'ros2'))
    schemas: dict[str, int] = {}
    channels: dict[str, int] = {}
    for m in messages:
        if m.msgtype not in schemas:
            text = edit('schema', _definition(m.msgtype))
            schemas[m.msgtype] = writer.register_schema(
                edit('type', m.msgtype), edit('kind', 'ros2msg'), text.encode('utf-8', 'surrogatepass'))
        if m.topic not in channels:
            channels[m.topic] = writer.register_channel(
                edit('topic', m.topic), edit('encoding', 'cdr'), schemas[m.msgtype],
                {'offered_qos_profiles': qos} if (qos := edit('qos', '')) else {})
        writer.add_message(channels[m.topic], m.log_ns, m.data, m.log_ns)
    writer.finish()
    return file.getvalue()


def lean_episode(folder: Path, seed: int, steps: int, observation: str) -> Path:
    """A synthetic episode without QoS profiles in its MCAP file, which take longer to parse than all the rest."""
    path = write_synthetic_episode(folder, seed, steps, observation)
    messages = _messages(path)
    next(path.glob('*.mcap')).write_bytes(_mcap_of(messages))
    return path


class BagMessages(Target):
    """A sound MCAP file of damaged messages, definitions and topics, as a faulty recorder would write it."""

    errors = (BagError,)
    observation, steps = 'state', 2

    def __init__(self, folder: Path):
        super().__init__(folder)
        seed = write_synthetic_episode(folder / 'seed', 3, self.steps, self.observation)
        self.bag = folder / 'run' / seed.name
        shutil.copytree(seed, self.bag)
        self.mcap = next(self.bag.glob('*.mcap'))
        self.named = self.bag.name
        self._store = typestore()
        self._metadata = (self.bag / 'metadata.yaml').read_text()
        self._valid = _messages(seed)
        if self.observation == 'pixels':    # fewer of what `bag messages` has already
            self._valid = [m for m in self._valid if m.msgtype.endswith('Image')] * 4 + self._valid
            self._valid.sort(key=lambda m: m.log_ns)

    def make(self, rng: random.Random) -> None:
        messages = [dataclasses.replace(m) for m in self._valid]
        edited = ''
        for _ in range(rng.choice((1, 1, 2))):
            m, kind = rng.choice(messages), rng.randrange(10)
            # Steps and EpisodeInfo are few, and everything hangs on them
            if rng.random() < 0.4:
                m = rng.choice([m for m in messages if m.msgtype.startswith('chef_msgs')] or messages)
            if kind < 4:
                self._change_field(rng, m)
            elif kind < 7:
                m.data = m.data[:4] + mutate_bytes(rng, m.data[4:], rng.choice(messages).data)
            elif kind == 7:
                m.log_ns = rng.choice((0, 1, 2**62, 2**63 - 1, 2**64 - 1))
            elif kind == 8:
                m.data = rng.choice((rng.choice(messages).data, b'', m.data[:rng.randrange(20)]))
            else:
                edited = rng.choice(('schema', 'schema', 'schema', 'type', 'topic', 'encoding', 'qos', 'kind', 'profile'))
                if rng.random() < 0.2:      # of every third topic
                    messages = [x for x in messages if hash_of(x.topic) % 3]
        chosen = rng.randrange(8)
        count = [0]

        def edit(what: str, text: str) -> str:
            if what == edited:
                count[0] += 1
                if (count[0] - 1) % 8 == chosen or what in ('profile', 'kind'):
                    return mutate_text(rng, text or _QOS)
            return text
        self.mcap.write_bytes(_mcap_of(messages, edit=_writable(edit)))
        text = self._metadata
        if rng.random() < 0.5:              # then the summary is made from the messages
            text = text.replace('chef_format', 'other_format')
        (self.bag / 'metadata.yaml').write_text(text)

    def _change_field(self, rng: random.Random, m: Message) -> None:
        """One field of the decoded message, anywhere in it."""
        try:
            message = self._store.deserialize_cdr(m.data, m.msgtype)
        except Exception:       # it was edited before
            return
        places = []
        pending = [message]
        while pending:
            part = pending.pop()
            for field in dataclasses.fields(part):
                value = getattr(part, field.name)
                if field.name == '__msgtype__' or field.name.isupper():
                    continue
                places.append((part, field.name, value))
                pending += [v for v in (value if isinstance(value, list) else [value])
                            if dataclasses.is_dataclass(v)]
        part, name, value = rng.choice(places)
        try:
            setattr(part, name, _other_value(rng, value))
            m.data = bytes(self._store.serialize_cdr(message, m.msgtype))
        except Exception:       # a value that cannot be in a message
            m.data = mutate_bytes(rng, m.data)

    def load(self) -> None:
        read_everything(self.bag)


def hash_of(text: str) -> int:
    """Like `hash`, but the same in every process."""
    return sum(map(ord, text))


def _writable(edit):
    return lambda what, text: edit(what, text).encode('utf-8', 'replace').decode() if what != 'schema' else edit(what, text)


def _other_value(rng: random.Random, value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice(_INTEGERS)
    if isinstance(value, float):
        return rng.choice(_FLOATS)
    if isinstance(value, str):
        return rng.choice(('', 'x' * 5000, '[' * 5000, '{"a": NaN}', mutate_text(rng, value).encode('utf-8', 'replace').decode()))
    if isinstance(value, np.ndarray):
        if value.dtype.kind == 'f' and rng.random() < 0.5:
            value = value.copy()
            value[rng.randrange(len(value)) if len(value) else slice(0)] = rng.choice(_FLOATS)
            return value
        return np.resize(value, rng.choice((0, 1, len(value) + 1, 5000)))
    if isinstance(value, list):
        return rng.choice(([], value[:1], value * 2, value[::-1], value * 400))
    return value


class BagImages(BagMessages):
    """The same with cameras."""

    observation, steps = 'pixels', 1


class BagMetadata(Target):
    """The text and the structure of metadata.yaml."""

    errors = (BagError,)

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.bag = lean_episode(folder / 'run', 4, 2, 'state')
        self.named = self.bag.name
        self._text = (self.bag / 'metadata.yaml').read_bytes()
        self._tree = yaml.safe_load(self._text)
        # three quarters of the file are QoS, which nothing here reads
        for t in self._tree['rosbag2_bagfile_information']['topics_with_message_count']:
            t['topic_metadata']['offered_qos_profiles'] = []
        self._safe = yaml.safe_dump({**self._tree, 'rosbag2_bagfile_information': {
            **self._tree['rosbag2_bagfile_information'], 'custom_data': '@here'}}, sort_keys=False)

    def make(self, rng: random.Random) -> None:
        if rng.random() < 0.3:
            data = mutate_bytes(rng, self._text)
        elif rng.random() < 0.5:
            # in the layout that the quick summary looks for
            custom = mutate_tree(rng, {'custom_data': self._tree['rosbag2_bagfile_information']['custom_data']})
            inner = text_of(rng, custom, 'yaml').replace(b'\n', b'\n  ')
            data = self._safe.encode().replace(b"custom_data: '@here'", inner)
        else:
            data = text_of(rng, mutate_tree(rng, self._tree), 'yaml')
        (self.bag / 'metadata.yaml').write_bytes(data)

    def load(self) -> None:
        refused = None
        try:
            read_summary(self.bag)
        except BagError as e:
            refused = e
        episode = Episode.open(self.bag)
        episode.steps()
        if refused:
            raise refused


class BagFolders(Target):
    """Folders that hold what no folder of bags should."""

    errors = (BagError,)

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._seed = lean_episode(folder / 'seed', 5, 1, 'state')
        self.root = folder / 'run'
        self.named = str(folder)

    def make(self, rng: random.Random) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        places = [self.root]
        for i in range(rng.randrange(1, 7)):
            name = rng.choice(('episodes', 'metadata.yaml', 'x.mcap', '.hidden', 'quarantine', 'a b\n', 'é', b'\xff'.decode('utf8', 'surrogateescape'),
                               self._seed.name, 'v000001', 'n' * 200)) + rng.choice(('', '', str(i)))
            path = rng.choice(places) / name
            if path.exists() or path.is_symlink():
                continue
            kind = rng.randrange(7)
            if kind == 0:
                path.mkdir()
                places.append(path)
            elif kind == 1:
                path.write_bytes(rng.randbytes(rng.choice((0, 10, 500))))
            elif kind == 2:
                path.symlink_to(rng.choice(('.', '..', 'nowhere', '/dev/null', str(path))))
            elif kind == 3:
                os.mkfifo(path)
            else:
                shutil.copytree(self._seed, path)
                places.append(path)
                victim = rng.choice(sorted(path.iterdir()))
                action = rng.randrange(5)
                if action == 0:
                    victim.unlink()
                elif action == 1:
                    victim.rename(path / 'other.mcap')
                elif action == 2:
                    victim.unlink()
                    victim.mkdir()
                elif action == 3:
                    victim.unlink()
                    os.mkfifo(victim)

    def load(self) -> None:
        paths = set(find_bags(self.root)) | set(find_episodes(self.root)) | set(self.root.iterdir())
        refused = None
        for path in sorted(paths):
            try:
                read_summary(path)
                Episode.open(path).steps()
            except BagError as e:
                refused = e
        if refused:
            raise refused


class BagCommands(BagMessages):
    """`./chef bags list` and `check` on the same: they tell, and never raise."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.named = ''

    def load(self) -> None:
        for command in ('list', 'check'):
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = bags([command, str(self.bag.parent)])
            text = out.getvalue() + err.getvalue()
            if code not in (0, 1, 2) or 'Traceback' in text or not text.strip() or '\x1b' in text:
                raise AssertionError(f'{command} ended with {code} and {text[-200:]!r}')
            text.encode()       # what cannot be written to a terminal


TARGETS = {'bag-bytes': BagBytes, 'bag-messages': BagMessages, 'bag-images': BagImages,
           'bag-metadata': BagMetadata, 'bag-folders': BagFolders, 'bag-commands': BagCommands}
