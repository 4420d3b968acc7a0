# SPDX-License-Identifier: Apache-2.0
"""Bags as files: which folders are bags, the quick summary, and raw messages."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from lz4.frame import LZ4FrameDecompressor
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, storage_mcap

from chef_task.bag.errors import BagError
from chef_task.bag.mcap_scan import MAGIC
from chef_task.bag.summary import from_custom_data
from chef_task.episode_file import SUFFIX
from chef_task.records import EpisodeRecord
from chef_task.yaml_file import Loader

QUARANTINE = 'quarantine'         # folder of bags that failed their audit, beside the sealed ones
REASONS_FILE = 'reasons.json'     # in each of them: why
_LARGEST_CHUNK = 1 << 28    # bytes, decompressed; ours are 64 KiB, rosbag2's 768 KiB


class _File(io.BufferedReader):
    """A file that gives no more than it has: Python allocates before it reads, rosbags asks for any length it finds."""

    def __init__(self, path: Path):
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int = -1) -> bytes:
        return super().read(min(size, self._size))


class _McapPath(type(Path())):
    """What rosbags' Reader opens."""

    def open(self, *args, **kwargs):
        return _File(self)


def _bounded(name: str, decompress: Callable[[bytes, int], bytes]) -> None:
    """Makes rosbags decompress a chunk to no more than the size that it states."""
    def within(data: bytes, size: int) -> bytes:
        if size > _LARGEST_CHUNK:
            raise ValueError(f'a chunk of {size} bytes')
        return decompress(data, size + 1)       # one more shows that it is longer than stated
    storage_mcap.DECOMPRESSORS[name] = within


_bounded('zstd', lambda data, size: storage_mcap.zstd.ZstdDecompressor().decompress(data, size))
_bounded('lz4', lambda data, size: LZ4FrameDecompressor().decompress(data, size))


def find_bags(folder: Path | str) -> list[Path]:
    """What looks like a bag under `folder` (or is it), sound or not, sorted by name.

    That is every folder with a metadata.yaml, everybody's; every MCAP or sqlite3 file outside of such folders;
    and every folder that may not be read, since nobody knows what is in it. Left out is what starts with a dot
    (partial bags) and `quarantine/`.

    Raises:
      BagError: no such folder, or it may not be read.
    """
    root = _folder(folder)
    found, unreadable = [], []
    for place, folders, names in os.walk(root, onerror=lambda e: unreadable.append(Path(e.filename))):
        if Path(place).name == QUARANTINE:
            folders.clear()
        elif 'metadata.yaml' in names:
            found.append(Path(place))
            folders.clear()
        else:
            found += [Path(place, n) for n in names if n.endswith(('.mcap', '.db3')) and not n.startswith('.')]
        folders[:] = [f for f in folders if not f.startswith('.')]
    return sorted(found + unreadable, key=lambda p: (p.name, p))


def find_episodes(folder: Path | str) -> list[Path]:
    """Sealed bags under `folder` (or itself), sorted by episode id, which is by time.

    Raises:
      BagError: no such folder, or it may not be read.
    """
    return [p for p in find_bags(folder) if os.access(p, os.X_OK) and (p / 'metadata.yaml').is_file()]


def find_files(path: Path | str) -> list[Path]:
    """Simulated episodes in one file (see `chef_task.episode_file`), sorted by name: the path, if it is one, else what
    lies right in the folder or in a folder `episodes` at any depth: elsewhere such names are labels or weights.

    Raises:
      BagError: no such folder, or it may not be read.
    """
    path = Path(path)
    if path.suffix == SUFFIX and path.is_file():
        return [path]
    root, found = _folder(path), []
    for place, folders, names in os.walk(root):
        if Path(place).name == QUARANTINE or 'metadata.yaml' in names:
            folders.clear()
        elif Path(place) == root or Path(place).name == 'episodes':
            found += [Path(place, n) for n in names if n.endswith(SUFFIX) and not n.startswith('.')]
        folders[:] = [f for f in folders if not f.startswith('.')]
    return sorted(found, key=lambda p: (p.name, p))


def find_quarantined(folder: Path | str) -> list[Path]:
    """Bags in the quarantine folders under `folder` (or of it), sorted by name; errors as `find_bags`."""
    root = _folder(folder)
    found: list[Path] = []
    for place, folders, names in os.walk(root):
        if Path(place).name == QUARANTINE:
            found += [Path(place, f) for f in folders if not f.startswith('.')]
            folders.clear()
        folders[:] = [f for f in folders if not f.startswith('.')]
    return sorted(found, key=lambda p: (p.name, p))


def _folder(path: Path | str) -> Path:
    root = Path(path)
    with one_error(root, 'cannot be read'):
        refuse_file(root)
        if not root.is_dir():
            raise BagError(f'{root}: not a folder' if root.exists() else f'{root}: no such folder')
        os.scandir(root).close()
    return root


def refuse_file(path: Path) -> None:
    """BagError where the path is an episode in one file, which what asks for bags does not take."""
    if path.suffix == SUFFIX and path.is_file():
        raise BagError(f'{path}: an episode in one file, not a bag; convert it first: '
                       f'./chef bags convert {path} --to DIR')


def bag_folder(path: Path | str) -> Path:
    """The folder of a bag given by its folder or by a file in it; BagError if there is none."""
    path = Path(path)
    with one_error(path, 'cannot be read'):
        refuse_file(path)
        if not path.exists():
            raise BagError(f'{path}: no such bag')
        folder = path.parent if path.is_file() and path.suffix in ('.mcap', '.db3', '.yaml') else path
        if not folder.is_dir() or not (folder / 'metadata.yaml').is_file():
            raise BagError(f'{path}: not a bag, or not sealed: it has no metadata.yaml')
    return folder


@contextmanager
def one_error(path: Path, doing: str):
    """Turns whatever a parser raises on damaged input into a BagError that names the bag."""
    try:
        yield
    except BagError:
        raise
    except OSError as e:
        raise BagError(f'{path}: {doing}: {e.strerror or e}') from e
    except Exception as e:      # parsers of damaged data raise KeyError, struct.error, RecursionError, ...
        raise BagError(f'{path}: {doing}: {e or type(e).__name__}') from e


def parse(path: Path, text: str) -> dict:
    """The mapping in a text of metadata.yaml; BagError where it is none."""
    with one_error(path, 'metadata.yaml is damaged'):
        data = yaml.load(text, Loader)
    if not isinstance(data, dict):
        raise BagError(f'{path}: metadata.yaml is damaged: it is not a mapping')
    return data


def _text(path: Path) -> str:
    with one_error(path, 'metadata.yaml cannot be read'):
        return (path / 'metadata.yaml').read_text('utf8')


def metadata(path: Path) -> dict:
    """What metadata.yaml says of the bag; BagError if it is damaged."""
    info = parse(path, _text(path)).get('rosbag2_bagfile_information')
    if not isinstance(info, dict):
        raise BagError(f'{path}: metadata.yaml is damaged: no rosbag2_bagfile_information')
    return info


def mcap_files(path: Path) -> list[Path]:
    """The MCAP files of the bag, in order; BagError if metadata.yaml is damaged or one is missing."""
    names = metadata(path).get('relative_file_paths')
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise BagError(f'{path}: metadata.yaml is damaged: no relative_file_paths')
    files = [path / Path(n).name for n in names]
    for f in files:
        if f.suffix != '.mcap':
            raise BagError(f'{path}: {f.name} is not an MCAP file')
        if not f.is_file():
            raise BagError(f'{path}: {f.name} is missing')
    return files


def quick_summary(path: Path) -> EpisodeRecord:
    """The summary in metadata.yaml, without reading messages; a look at the MCAP's end finds a truncated one.

    Raises:
      BagError: metadata.yaml has no (sound) summary, or the MCAP is incomplete.
    """
    text = _text(path)
    # QoS of every topic makes the whole file slow to parse: take only the part that is asked for
    start = text.find('\n  custom_data:\n')
    if start < 0:
        raise BagError(f'{path}: metadata.yaml holds no episode summary')
    lines = text[start + 1:].split('\n')
    end = next((i for i, s in enumerate(lines[1:], 1) if s and not s.startswith('   ')), len(lines))
    data = parse(path, '\n'.join(lines[:end]))
    with one_error(path, 'metadata.yaml is damaged'):
        record = from_custom_data(data['custom_data'])
    files = sorted(p for p in path.glob('*.mcap') if p.is_file())     # a pipe would be waited for
    if not files:
        raise BagError(f'{path}: its MCAP file is missing')
    for file in files:
        with one_error(path, f'{file.name} cannot be read'), open(file, 'rb') as f:
            f.seek(0, os.SEEK_END)
            f.seek(max(0, f.tell() - len(MAGIC)))
            if f.read() != MAGIC:
                raise BagError(f'{path}: {file.name} is truncated')
    return record


def connections(path: Path, files: list[Path]) -> list[Connection]:
    """The topics in the bag's files, with types, definitions and counts."""
    out = []
    for file in files:
        with one_error(path, f'{file.name} is unreadable or truncated'), Reader(_McapPath(file)) as reader:
            out += list(reader.connections)
    return out


def raw_messages(path: Path, files: list[Path], wanted: Callable[[Connection], bool],
                 ) -> Iterator[tuple[Connection, int, bytes]]:
    """(topic, log time in ns, serialised message) of the wanted topics, in log order, one pass."""
    for file in files:
        with one_error(path, f'{file.name} is unreadable or truncated'), Reader(_McapPath(file)) as reader:
            chosen = [c for c in reader.connections if wanted(c)]
            if chosen:
                yield from reader.messages(chosen)
