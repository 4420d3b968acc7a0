# SPDX-License-Identifier: Apache-2.0
"""What is in a bag's MCAP files, by one pass over their bytes: for the audit and for saving what a crash left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chef_task.bag.definitions import typestore_of
from chef_task.bag.mcap_scan import Channel, McapScan
from chef_task.bag.summary import END, INFO, STEP, Tally
from chef_task.messages import serialized_stamp_ns
from chef_task.records import StepRecord
from chef_task.spaces import STREAMS


@dataclass
class Topic:
    """A topic's messages in the order of the file: capture stamps in ns, log times where they have none."""

    channel: Channel
    stamps: list[int] = field(default_factory=list)


@dataclass
class Contents:
    """Everything that must be known to judge an episode.

    steps, step_ids: of every Step in the order of the file, and the episode that each says it is of.
    infos: of every EpisodeInfo, the same and whether it is an END. tally: fed with these, not with the wrench.
    undecodable: what is wrong with the first message that could not be decoded, ''.
    """

    scans: list[McapScan]
    topics: dict[str, Topic] = field(default_factory=dict)
    steps: list[StepRecord] = field(default_factory=list)
    step_ids: list[str] = field(default_factory=list)
    infos: list[tuple[str, bool]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    undecodable: str = ''

    @classmethod
    def read(cls, files: Sequence[Path]) -> Contents:
        """Reads the MCAP files of one bag; what is wrong with them is in `damage` and `undecodable`."""
        self = cls([McapScan(f) for f in files])
        for scan in self.scans:
            stamps_of: dict[int, tuple[Topic, bool]] = {}
            for channel, log_ns, _, data in scan.messages():
                if channel not in stamps_of:
                    c = scan.channels[channel]
                    stamps_of[channel] = self.topics.setdefault(c.topic, Topic(c)), c.stamped
                topic, stamped = stamps_of[channel]
                topic.stamps.append(serialized_stamp_ns(data) if stamped and len(data) >= 12 else log_ns)
                if topic.channel.msgtype in (INFO, STEP):
                    self._decode(topic.channel, data)
        return self

    def _decode(self, channel: Channel, data: memoryview) -> None:
        try:
            store = typestore_of(((channel.msgtype, channel.definition),))
            message = store.deserialize_cdr(data, channel.msgtype)
            if channel.msgtype == INFO:
                self.tally.info(message)
                self.infos.append((message.episode_id, message.event == END))
            else:
                self.steps.append(self.tally.step(message))
                self.step_ids.append(message.episode_id)
        except Exception as e:      # rosbags raises several kinds
            self.undecodable = self.undecodable or f'{channel.topic}: a message is damaged: {e or type(e).__name__}'

    @property
    def damage(self) -> str:
        """What is wrong with the first file that is not sound, ''."""
        return next((s.damage for s in self.scans if s.damage), '')

    @property
    def messages(self) -> int:
        return sum(len(t.stamps) for t in self.topics.values())

    def stamps_of(self, stream: str) -> set[int]:
        """Capture stamps of a stream, ns; images may be in a topic below that of the stream."""
        first, relative = self.tally.start or self.tally.end, STREAMS[stream].topic
        cell = first.cell.strip('/') if first else ''
        own = f'/{cell}/{relative}' if cell else f'/{relative}'
        topics = [t for name, t in self.topics.items() if name == own or name.startswith(own + '/')]
        topics = topics or [t for name, t in self.topics.items() if name.endswith('/' + relative)]
        return {stamp for t in topics for stamp in t.stamps}
