# SPDX-License-Identifier: Apache-2.0
"""One pass over an MCAP file from its first byte, as far as it is sound; needs no index.

Readers of bags go by the index at the end, which a file that was cut off lacks, and believe it. This looks at
the bytes themselves and at every checksum, so it serves both to prove a bag and to save what a crash left.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel as ChannelRecord
from mcap.records import Chunk, Metadata, Schema

MAGIC = b'\x89MCAP0\r\n'
_RECORD = struct.Struct('<BQ')                  # opcode, length
_MESSAGE = struct.Struct('<HIQQ')               # channel, sequence, log time, publish time
_FOOTER = struct.Struct('<BQQQI')               # opcode, length, summary start, offsets' start, CRC
_TAIL = _FOOTER.size + len(MAGIC)
_LARGEST = 1 << 30                              # bytes of one record: a longer one is garbage


class Message(NamedTuple):
    """One message: times in ns, `data` serialised, valid for as long as it is kept."""

    channel: int
    log_ns: int
    publish_ns: int
    data: memoryview


@dataclass(frozen=True)
class Channel:
    """A topic as the file describes it; `metadata` holds what rosbag2 keeps there, QoS and type hash."""

    topic: str
    msgtype: str
    definition: str
    metadata: dict[str, str]

    @property
    def stamped(self) -> bool:
        """Whether its messages begin with a std_msgs/Header."""
        for line in self.definition.splitlines():
            words = line.split('#', 1)[0].split()
            if len(words) >= 2 and '=' not in ''.join(words):
                return words[0] in ('std_msgs/Header', 'std_msgs/msg/Header')
        return False


class _Damage(Exception):
    """The file is not sound from here on."""


@dataclass
class McapScan:
    """`messages()` once, then the other fields say what was found; never raises for what is in the file.

    damage: what ended the pass before the file's end, on one line; '' for a whole file.
    at: bytes from the start that are sound. size: of the file. chunks: that were read.
    data_checked, summary_checked: whether the file carries a checksum of that part; a wrong one is damage.
    count: of messages, as the file's own statistics have it; None without.
    metadata: the file's metadata records, by name.
    """

    path: Path
    channels: dict[int, Channel] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    damage: str = ''
    at: int = 0
    size: int = 0
    chunks: int = 0
    count: int | None = None
    data_checked: bool = False
    summary_checked: bool = False

    def messages(self) -> Iterator[Message]:
        """Every message, in the order of the file; those of a chunk only once all of it is known to be sound."""
        self._schemas: dict[int, Schema] = {}
        try:
            with open(self.path, 'rb') as f:
                self.size = os.fstat(f.fileno()).st_size
                yield from self._walk(f)
        except _Damage as e:
            self.damage = f'{self.path.name}: {e}'
        except OSError as e:
            self.damage = f'{self.path.name}: cannot be read at byte {self.at}: {e.strerror or e}'

    def _walk(self, f: BinaryIO) -> Iterator[Message]:
        if f.read(len(MAGIC)) != MAGIC:
            raise _Damage('does not begin as an MCAP file')
        self.at = len(MAGIC)
        crc = zlib.crc32(MAGIC)
        while True:
            head = f.read(_RECORD.size)
            if len(head) < _RECORD.size:
                raise _Damage(f'is cut off at byte {self.at}')
            opcode, length = _RECORD.unpack(head)
            if opcode == 0 or length > min(_LARGEST, self.size - self.at - _RECORD.size):
                raise _Damage(f'is cut off or damaged at byte {self.at}')
            content = f.read(length)
            if len(content) < length:
                raise _Damage(f'is cut off at byte {self.at}')
            if opcode == Opcode.DATA_END:
                self._end(f, head + content, crc)
                return
            crc = zlib.crc32(content, zlib.crc32(head, crc))
            yield from self._take(opcode, content)
            self.at += len(head) + length

    def _take(self, opcode: int, content: bytes) -> list[Message]:
        """What one record of the data section holds."""
        try:
            if opcode == Opcode.CHUNK:
                self.chunks += 1
                return list(self._chunk(content))
            return list(self._record(opcode, memoryview(content)))
        except _Damage:
            raise
        except Exception as e:      # parsers of damaged data raise struct.error, UnicodeDecodeError, ...
            raise _Damage(f'has a damaged record at byte {self.at}: {e or type(e).__name__}') from None

    def _record(self, opcode: int, content: memoryview) -> Iterator[Message]:
        if opcode == Opcode.MESSAGE:
            channel, _, log_ns, publish_ns = _MESSAGE.unpack_from(content)
            if channel not in self.channels:
                raise _Damage(f'has a message of no known topic at byte {self.at}')
            yield Message(channel, log_ns, publish_ns, content[_MESSAGE.size:])
        elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.METADATA):
            stream = ReadDataStream(BytesIO(content))
            if opcode == Opcode.SCHEMA:
                schema = Schema.read(stream)
                self._schemas[schema.id] = schema
            elif opcode == Opcode.CHANNEL:
                channel = ChannelRecord.read(stream)
                schema = self._schemas[channel.schema_id]
                self.channels[channel.id] = Channel(channel.topic, schema.name, schema.data.decode(),
                                                    dict(channel.metadata))
            else:
                record = Metadata.read(stream)
                self.metadata[record.name] = dict(record.metadata)

    def _chunk(self, content: bytes) -> Iterator[Message]:
        chunk = Chunk.read(ReadDataStream(BytesIO(content)))
        if chunk.compression:
            raise _Damage(f'is compressed with {chunk.compression}, which no bag of ours is')
        if chunk.uncompressed_crc not in (0, zlib.crc32(chunk.data)):
            raise _Damage(f'has a wrong checksum in the chunk at byte {self.at}')
        data, at = memoryview(chunk.data), 0
        while at < len(data):
            opcode, length = _RECORD.unpack_from(data, at)
            at += _RECORD.size
            if length > len(data) - at:
                raise _Damage(f'has a damaged record in the chunk at byte {self.at}')
            yield from self._record(opcode, data[at:at + length])
            at += length

    def _end(self, f: BinaryIO, data_end: bytes, crc: int) -> None:
        """Checks the data section's checksum and all that follows it."""
        if len(data_end) != _RECORD.size + 4:
            raise _Damage(f'has a damaged record at byte {self.at}')
        told = struct.unpack_from('<I', data_end, _RECORD.size)[0]
        if told not in (0, crc):
            raise _Damage('has a wrong checksum over its data')
        self.data_checked = told != 0
        begin = self.at + len(data_end)
        summary = f.read(self.size - begin)
        if len(summary) < _TAIL or summary[-len(MAGIC):] != MAGIC:
            raise _Damage('is cut off in its summary')
        opcode, length, start, _, told = _FOOTER.unpack_from(summary, len(summary) - _TAIL)
        if opcode != Opcode.FOOTER or length != _FOOTER.size - _RECORD.size or start not in (0, begin):
            raise _Damage('has a damaged footer')
        if told not in (0, zlib.crc32(summary[:len(summary) - len(MAGIC) - 4])):
            raise _Damage('has a wrong checksum over its summary')
        self.summary_checked = told != 0
        at = 0
        while at < len(summary) - _TAIL:
            opcode, length = _RECORD.unpack_from(summary, at)
            if length > len(summary) - _TAIL - at:
                raise _Damage('has a damaged summary')
            if opcode == Opcode.STATISTICS and length >= 8:
                self.count = struct.unpack_from('<Q', summary, at + _RECORD.size)[0]
            at += _RECORD.size + length
        self.at = self.size
