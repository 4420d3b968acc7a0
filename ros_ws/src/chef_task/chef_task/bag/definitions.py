# SPDX-License-Identifier: Apache-2.0
"""Message definitions without ROS: standard types from rosbags, chef_msgs from its .msg files."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from chef_task.bag.errors import BagError

PACKAGE = 'chef_msgs'
_SEPARATOR = '=' * 80 + '\n'


def find_msg_dir() -> Path:
    """Folder with chef_msgs' .msg files: of the sourced workspace, else of the source tree around this file.

    Raises:
      BagError: neither holds them.
    """
    prefixes = [Path(p) for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    places = [p / 'share' / PACKAGE / 'msg' for p in prefixes]
    places += [p / PACKAGE / 'msg' for p in Path(__file__).resolve().parents]
    # chef_task may run from the install space without the environment: its sources are beside it there
    places += [p / 'src' / PACKAGE / 'msg' for p in Path(__file__).resolve().parents]
    for place in places:
        if (place / 'Step.msg').is_file():
            return place
    raise BagError(f'{PACKAGE} not found: source its workspace (install/setup.bash) or pass its msg folder')


@lru_cache(maxsize=4)
def _chef_sources(msg_dir: Path) -> dict[str, str]:
    return {f'{PACKAGE}/msg/{f.stem}': f.read_text() for f in sorted(msg_dir.glob('*.msg'))}


@lru_cache(maxsize=4)
def _typestore(msg_dir: Path) -> Typestore:
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for name, text in _chef_sources(msg_dir).items():
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store


def typestore(msg_dir: Path | str | None = None) -> Typestore:
    """Jazzy's standard messages and chef_msgs, to make and serialise messages without ROS.

    Args:
      msg_dir: folder with chef_msgs' .msg files; found by `find_msg_dir` if not given.
    """
    return _typestore(Path(msg_dir) if msg_dir else find_msg_dir())


def definition(msgtype: str, msg_dir: Path | str | None = None) -> tuple[str, str]:
    """Definition text with all dependencies, as rosbag2 embeds it, and the RIHS01 type hash.

    The sections of chef_msgs are the files as written: their comments hold the units.

    Raises:
      BagError: the type is not known.
    """
    msg_dir = Path(msg_dir) if msg_dir else find_msg_dir()
    store, sources = _typestore(msg_dir), _chef_sources(msg_dir)
    if msgtype not in store.fielddefs:
        raise BagError(f'message type {msgtype!r} is not known: neither standard nor of {PACKAGE}')
    text, _ = store.generate_msgdef(msgtype, ros_version=2)
    first, *rest = text.split(_SEPARATOR)
    sections = [sources.get(msgtype, first)]
    for section in rest:
        head, _, body = section.partition('\n')
        name = head.removeprefix('MSG: ')
        name = name if '/msg/' in name else name.replace('/', '/msg/', 1)
        sections.append(f'{head}\n{sources.get(name, body)}')
    sections = [s if s.endswith('\n') else s + '\n' for s in sections]
    return _SEPARATOR.join(sections), store.hash_rihs01(msgtype)


@lru_cache(maxsize=16)
def typestore_of(definitions: tuple[tuple[str, str], ...]) -> Typestore:
    """A typestore of a bag's own definitions: pairs of message type and definition text.

    Cached, because parsing takes longer than reading a short bag and a run's bags share their types.
    """
    store = get_typestore(Stores.EMPTY)
    types = {}
    for name, text in definitions:
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store
