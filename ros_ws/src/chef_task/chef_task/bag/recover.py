# SPDX-License-Identifier: Apache-2.0
"""Saves what a crash left: an unsealed or cut-off bag becomes a valid one, or there is one clear reason why not.

The original is only read. The new bag holds every sound message up to the first damage, but only those Steps
that follow each other from the first and whose samples are all there, and an END only if it is true of them.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from chef_task.bag import files
from chef_task.bag.audit import audit
from chef_task.bag.contents import Contents
from chef_task.bag.disk import lock_reading
from chef_task.bag.errors import AuditError, BagError
from chef_task.bag.mcap_scan import MAGIC, McapScan
from chef_task.bag.qos import TopicQos
from chef_task.bag.summary import INFO, STEP
from chef_task.bag.writer import BagWriter
from chef_task.records import Reason
from chef_task.spaces import STREAMS

REASON = f'{Reason.RECORDER_LOST.value}:recovered, its end was not recorded'
_TEMPORARY = '.recovering'


@dataclass(frozen=True)
class Recovery:
    """What became of one source. made: whether `bag` was written now, or was there. lost: on one line, or ''."""

    source: Path
    bag: Path
    made: bool
    steps: int = 0
    lost: str = ''


def find_crashed(folder: Path | str) -> list[Path]:
    """What a crash may have left under `folder` (or is): unsealed bags, and sealed ones that were cut off.

    Bags of other programs that are whole are none of it, and quarantine is left alone.

    Raises:
      BagError: no such folder, or it may not be read.
    """
    root = Path(folder)
    files.refuse_file(root)
    if not os.path.isdir(root) or root.name.endswith('.partial') or os.path.isfile(root / 'metadata.yaml'):
        return [root]
    found = [p.parent if os.path.isfile(p) and p.parent != root else p
             for p in files.find_bags(root) if not os.path.isfile(p / 'metadata.yaml') or _cut_off(p)]
    for place, folders, _ in os.walk(root):
        found += [Path(place, f) for f in folders if f.startswith('.') and f.endswith('.partial')]
        folders[:] = [f for f in folders if not f.startswith('.') and f != files.QUARANTINE]
    return sorted(set(found), key=lambda p: (p.name.lstrip('.'), p))


def _cut_off(bag: Path) -> bool:
    try:
        names = files.mcap_files(bag)
    except BagError:
        return any(bag.glob('*.mcap'))
    return any(_tail(f) != MAGIC for f in names)


def _tail(file: Path) -> bytes:
    try:
        with open(file, 'rb') as f:
            f.seek(max(0, os.fstat(f.fileno()).st_size - len(MAGIC)))
            return f.read()
    except OSError:
        return b''


def recover(source: Path | str, output: Path | str | None = None) -> Recovery:
    """Makes a valid bag of what is in `source`; a second call finds the first one's bag and leaves it.

    Args:
      source: a bag's folder, sealed or partial, or its MCAP file.
      output: folder of the new bag; the one that holds the source if not given.

    Raises:
      BagError: why it cannot be done; nothing was left behind.
    """
    source = Path(source)
    file = _mcap_of(source)
    if source == file and file.name == f'{_name(file.parent)}_0.mcap':
        source = file.parent    # it is all there is of a bag
    with files.one_error(source, 'cannot be recovered'), open(file, 'rb') as f:
        if not lock_reading(f.fileno()):
            raise BagError(f'{source}: is still being written')
        sealed = os.path.isfile(source / 'metadata.yaml') and not source.name.startswith('.')
        if sealed and not audit(source).faults:
            return Recovery(source, source, made=False)
        return _recover(source, file, Path(output) if output else source.parent)


def _name(folder: Path) -> str:
    return folder.name.removeprefix('.').removesuffix('.partial')


def _mcap_of(source: Path) -> Path:
    """The one MCAP file of a source."""
    with files.one_error(source, 'cannot be read'):
        if not source.exists():
            raise BagError(f'{source}: no such file or folder')
        names = sorted(p for p in source.iterdir() if p.is_file()) if source.is_dir() else [source]
    found = [p for p in names if p.suffix == '.mcap']
    if not found and any(p.suffix == '.db3' for p in names):
        raise BagError(f'{source}: is an sqlite3 bag, only MCAP can be recovered')
    if len(found) != 1:
        raise BagError(f'{source}: holds {len(found) or "no"} MCAP files, a bag of ours has one')
    return found[0]


def _recover(source: Path, file: Path, folder: Path) -> Recovery:
    contents = Contents.read([file])
    start, end = contents.tally.start, contents.tally.end
    if start is None:
        raise BagError(f'{source}: {_no_start(contents)}')
    keep = _sound_steps(contents)
    if not keep:
        raise BagError(f'{source}: not one Step of it is whole: there is nothing to recover'
                       + (f' ({contents.damage})' if contents.damage else ''))
    last = contents.steps[keep - 1]
    complete = end is not None and keep == len(contents.steps) == end.steps + 1 and last.last
    name = start.episode_id
    if folder.resolve() / name == source.resolve():
        name += '-recovered'
    target = folder / name
    if target.exists():
        return _already(source, target, start.episode_id)
    lost = _lost(contents, keep, complete)
    _write(file, contents, target, keep, complete, {'from': source.name, 'lost': lost})
    return Recovery(source, target, True, keep, lost)


def _no_start(contents: Contents) -> str:
    if contents.damage or contents.undecodable:
        return f'its START cannot be read, so nothing tells what it is: {contents.damage or contents.undecodable}'
    return 'not an episode: it has no EpisodeInfo'


def _sound_steps(contents: Contents) -> int:
    """How many Steps from the first on follow each other and find all the samples that they name."""
    known = {s: contents.stamps_of(s) for s in {s for step in contents.steps for s in step.stamps} if s in STREAMS}
    for i, (step, episode_id) in enumerate(zip(contents.steps, contents.step_ids)):
        if step.index != i or episode_id != contents.tally.start.episode_id or any(
                stamp not in known.get(stream, ()) for stream, stamp in step.stamps.items()):
            return i
    return len(contents.steps)


def _lost(contents: Contents, keep: int, complete: bool) -> str:
    scan = contents.scans[0]
    lost = []
    if scan.damage:
        lost.append(f'{scan.size - scan.at} bytes, for {scan.damage}')
    if keep < len(contents.steps):
        lost.append(f'{len(contents.steps) - keep} Steps whose samples or neighbours are missing')
    if not complete:
        lost.append('the end of the episode')
    return ', '.join(lost)


def _already(source: Path, target: Path, episode_id: str) -> Recovery:
    """The target exists: made by an earlier call, or sealed after all; anything else is left alone."""
    found = audit(target)
    if found.faults:
        raise BagError(f'{source}: {target} exists already and is not sound: {found.faults[0]}')
    if files.quick_summary(target).episode_id != episode_id:
        raise BagError(f'{source}: {target} exists already and is another episode')
    return Recovery(source, target, made=False)


def _write(file: Path, contents: Contents, target: Path, keep: int, complete: bool, note: dict) -> None:
    """Writes, seals and audits the new bag, by the definitions and QoS of the old one."""
    channels = contents.scans[0].channels.values()
    temporary = f'.{target.name}{_TEMPORARY}'
    _clear(target.parent / temporary)
    writer = BagWriter(
        target.parent, target.name, partial=temporary,
        qos={c.topic: TopicQos.parse(c.metadata.get('offered_qos_profiles', '')) for c in channels},
        definitions={c.msgtype: (c.definition, c.metadata.get('topic_type_hash', '')) for c in channels})
    try:
        scan = McapScan(file)
        steps = iter([True] * keep + [False] * (len(contents.steps) - keep))
        infos = iter([complete or not end for _, end in contents.infos])
        for channel_id, log_ns, publish_ns, data in scan.messages():
            channel = scan.channels[channel_id]
            kept = {STEP: steps, INFO: infos}.get(channel.msgtype)
            if kept is None or next(kept):
                writer.write(channel.topic, channel.msgtype, bytes(data), log_ns, publish_ns)
        record = writer.tally.record(REASON)
        writer.seal(dataclasses.replace(record, metadata={**record.metadata, 'recovered': note}), quarantine=False)
    except AuditError as e:
        raise BagError(f'{target}: what was recovered is not sound: {"; ".join(e.faults)}') from e
    finally:
        writer.abandon()
        _clear(target.parent / temporary)


def _clear(temporary: Path) -> None:
    """Removes what a recovery that was killed left; its source is still there."""
    if temporary.exists():
        for file in temporary.glob('*.mcap'):
            with open(file, 'rb') as f:
                if not lock_reading(f.fileno()):
                    raise BagError(f'{temporary}: another recovery is at work')
        shutil.rmtree(temporary)
