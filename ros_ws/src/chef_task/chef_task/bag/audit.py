# SPDX-License-Identifier: Apache-2.0
"""Whether a bag is what it says: read back from disk, every byte and every Step, before anybody learns from it.

    found = audit('run/episodes/20261123T205500_123456_cell_1_000001')
    if found.faults: ...

A fault is what makes the bag untrue or a Step unusable. All else that a lab wants to know is a figure.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from chef_task.bag import files
from chef_task.bag.contents import Contents, Topic
from chef_task.bag.errors import BagError
from chef_task.bag.reader import Episode
from chef_task.bag.summary import to_custom_data
from chef_task.records import EpisodeRecord, Reason, StepRecord
from chef_task.spaces import STREAMS

FILE = 'audit.json'      # beside the MCAP, once the bag is sealed
# Only with these can a bag lack its END: the one who announces it, or who writes it, was gone.
CUT_SHORT = (Reason.EPISODE_NODE_LOST, Reason.RECORDER_LOST, Reason.NODE_LOST, Reason.SHUTDOWN)


@dataclass(frozen=True)
class Audit:
    """What was found.

    faults: one line each; none for a sound bag.
    figures: plain values: `topics` (topic to `count`, `rate_hz`, `largest_gap_s`, by capture stamps), `streams`
      (stream to `worst_age_s` of the samples that Steps name, `limit_s`), `steps`, `bytes`, `chunks`, `end`
      (whether it was recorded), `checksums` (which were there and right), `seconds` that the audit took.
    """

    faults: tuple[str, ...] = ()
    figures: dict = field(default_factory=dict)

    def to_json(self, **more) -> str:
        """For a file beside the bag."""
        return json.dumps({**more, 'faults': list(self.faults), **self.figures}, indent=1) + '\n'


def audit(bag: Path | str | Episode, written: Mapping[str, int] | None = None) -> Audit:
    """Reads a bag from disk and judges it; never raises for what is in it.

    Args:
      bag: its folder, or an Episode, which is read anew.
      written: topic to the number of messages that its writer wrote, where that is known.
    """
    began = time.perf_counter()
    path = bag.path if isinstance(bag, Episode) else Path(bag)
    try:
        with files.one_error(path, 'cannot be audited'):
            found = _judge(files.bag_folder(path), written)
    except BagError as e:
        found = Audit((str(e),))
    found.figures['seconds'] = round(time.perf_counter() - began, 3)
    return found


def _judge(path: Path, written: Mapping[str, int] | None) -> Audit:
    names = files.mcap_files(path)
    contents = Contents.read(names)
    faults = [f for f in (contents.damage, contents.undecodable) if f]
    if not faults:
        faults += _of_counts(path, names, contents, written)
        faults += _of_events(path, contents)
        faults += _of_steps(contents)
        faults += _of_samples(contents)
    return Audit(tuple(faults), {
        'steps': len(contents.steps), 'messages': contents.messages, 'bytes': sum(s.size for s in contents.scans),
        'chunks': sum(s.chunks for s in contents.scans), 'end': contents.tally.end is not None,
        'checksums': {'data': all(s.data_checked for s in contents.scans),
                      'summary': all(s.summary_checked for s in contents.scans)},
        'topics': {name: _topic_figures(t) for name, t in sorted(contents.topics.items())},
        'streams': _ages(contents)})


def _topic_figures(topic: Topic) -> dict:
    stamps = np.sort(np.array(topic.stamps, np.int64))
    gaps = np.diff(stamps) * 1e-9
    span = float(gaps.sum()) if len(gaps) else 0.0
    return {'count': len(stamps), 'rate_hz': round(len(gaps) / span, 3) if span > 0 else None,
            'largest_gap_s': round(float(gaps.max()), 4) if len(gaps) else None}


def _of_counts(path: Path, names: list[Path], contents: Contents, written: Mapping[str, int] | None) -> list[str]:
    """The same number of messages by the bytes, by whom wrote them, by the index and by metadata.yaml."""
    found = Counter({name: len(t.stamps) for name, t in contents.topics.items()})
    told = {'were written': written, 'are in its index': Counter()}
    for c in files.connections(path, names):
        told['are in its index'][c.topic] += c.msgcount
    metadata = files.metadata(path)
    with files.one_error(path, 'metadata.yaml is damaged'):
        told['are in metadata.yaml'] = {str(t['topic_metadata']['name']): t['message_count']
                                        for t in metadata['topics_with_message_count']}
    faults = []
    for who, counts in told.items():
        for topic in sorted({*found, *(counts or ())} if counts is not None else ()):
            if found[topic] != counts.get(topic, 0):
                faults.append(f'{topic}: the file holds {found[topic]} messages, {counts.get(topic, 0)} {who}')
    for scan in contents.scans:
        copy = scan.metadata.get('rosbag2', {}).get('serialized_metadata')
        if copy is not None and len(names) == 1 and files.parse(path, copy) != metadata:
            faults.append('metadata.yaml differs from the copy in the MCAP')
    return faults


def _of_events(path: Path, contents: Contents) -> list[str]:
    """START and END, and a summary that says what they say."""
    tally, faults = contents.tally, []
    if tally.start is None:
        faults.append('its START is missing: what the episode was to be is not known')
    ids = sorted({*(i for i, _ in contents.infos), *contents.step_ids})
    if len(ids) > 1:
        faults.append(f'it holds messages of several episodes: {", ".join(ids)}')
    try:
        told = files.quick_summary(path)
    except BagError as e:
        return [*faults, str(e)]
    if tally.end is None:
        if told.success:
            faults.append('it claims success without an END')
        if _reason(told) not in CUT_SHORT:
            faults.append(f'its END is missing, yet it says it ended by {told.termination_reason}')
    elif _text(told) != _text(tally.record()):
        faults.append('its summary in metadata.yaml is not what its END says')
    return faults


def _text(record: EpisodeRecord) -> dict[str, str]:
    """As it is stored, so that NaN equals itself; without what a recovery adds."""
    return to_custom_data(replace(record, metadata={}))


def _reason(record: EpisodeRecord) -> Reason | None:
    try:
        return Reason.of(record.termination_reason)
    except ValueError:
        return None


def _of_steps(contents: Contents) -> list[str]:
    """Indices 0..n in order, exactly one last at the end, time that goes on, and returns that add up."""
    steps, end = contents.steps, contents.tally.end
    if not steps:
        return ['it has no Steps']
    faults = []
    indices = [s.index for s in steps]
    if indices != list(range(len(steps))):
        at = next(i for i, index in enumerate(indices) if index != i)
        what = ('are out of order' if sorted(indices) == list(range(len(steps))) else
                'repeat' if len(set(indices)) < len(indices) else 'have a gap')
        faults.append(f'the indices of its Steps {what}: at place {at} is {indices[at]}')
    lasts = [s.index for s in steps if s.last]
    if lasts not in ([indices[-1]], [] if end is None else None):
        faults.append(f'of its {len(steps)} Steps {len(lasts)} say that they are the last: {lasts[:3]}')
    acted = [s.stamp for s in steps if not s.last]
    if any(b <= a for a, b in zip(acted, acted[1:])):
        faults.append('the times of its Steps do not ascend')
    if end is not None:
        if end.steps != len(acted):
            faults.append(f'its END says {end.steps} steps, the bag has {len(acted)}')
        sums = np.sum([s.rewards for s in steps], 0, dtype=float)
        if sums.shape != np.shape(end.returns) or not np.allclose(sums, end.returns, 1e-4, 1e-3, equal_nan=True):
            faults.append('the returns of its END are not the sums of its rewards')
    return faults


def _of_samples(contents: Contents) -> list[str]:
    """Every sample that a Step names is there, and was no older than allowed while the policy acted.

    A gap in a stream that lasts longer than its limit shows as such an age, at the first tick that the limit
    should have stopped; the last Step is let off unless time ran out there: it may be the last because a sensor
    went stale.
    """
    faults = []
    limits, end = _limits(contents), contents.tally.end
    timed_out = end is not None and end.termination_reason.split(':', 1)[0] == Reason.TIME_LIMIT.value
    for stream in _named(contents.steps):
        if stream not in STREAMS:
            faults.append(f'its Steps name a stream {stream!r} that is not known')
            continue
        known = contents.stamps_of(stream)
        steps = [s for s in contents.steps if stream in s.stamps]
        missing = [s.index for s in steps if s.stamps[stream] not in known]
        if missing:
            faults.append(f'{stream}: samples of {len(missing)} Steps are missing, the first of step {missing[0]}')
        age, index = max((((s.stamp - s.stamps[stream]) * 1e-9, s.index) for s in steps if timed_out or not s.last),
                         default=(0.0, 0))
        if age > limits.get(stream, math.inf):
            faults.append(f'{stream}: the sample of step {index} is {age:.3f} s old, the limit is '
                          f'{limits[stream]:g} s')
    return faults


def _limits(contents: Contents) -> dict[str, float]:
    """Age limits by stream, s, as the bag has them; none where it has none."""
    try:
        ages = contents.tally.record(Reason.SHUTDOWN.value).metadata['limits']['sensor_age_s']
        return {str(k): float(v) for k, v in ages.items() if math.isfinite(float(v))}
    except (BagError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _named(steps: list[StepRecord]) -> list[str]:
    return list(dict.fromkeys(name for s in steps for name in s.stamps))


def _ages(contents: Contents) -> dict:
    """By stream: the worst age of the samples that Steps name, s, and the limit."""
    limits = _limits(contents)
    return {stream: {
        'worst_age_s': round(max(s.stamp - s.stamps[stream] for s in contents.steps if stream in s.stamps) * 1e-9, 4),
        'limit_s': limits.get(stream)} for stream in _named(contents.steps)}
