# SPDX-License-Identifier: Apache-2.0
import os
import resource
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosReliability

from chef_task.bag import AuditError, BagError, BagWriter, Episode, TopicQos, find_episodes, free_bytes
from chef_task.bag.definitions import typestore
from chef_task.bag.episode_messages import EpisodeMessages

ID = '20261123T205500_123456_cell_1_000001'
STRING = 'std_msgs/msg/String'


def text(value: str) -> bytes:
    store = typestore()
    return bytes(store.serialize_cdr(store.types[STRING](value), STRING))


def start_message(writer, event=0):
    """Writes an EpisodeInfo; returns nothing."""
    store = typestore()
    t, topic, kind, m = EpisodeMessages(store, ID).info(
        10, event, ID, 'cell_1', 2, 7, ['open', 'stack_leave'], '{"limits": {"force_n": 20.0}}', 'v000003', 1,
        'time_limit', True, 3.5, [1.0, 2.0])
    writer.write(f'/cell_1/{topic}', kind, bytes(store.serialize_cdr(m, kind)), t)


def whole_episode(writer):
    """Writes the least that is an episode: START, a Step, the last Step, END; 8 messages on 5 topics."""
    start_message(writer)
    store = typestore()
    for i, values in enumerate(([1.0, 1.0], [0.0, 1.0])):
        action = np.zeros(5, np.float32)
        for t, topic, kind, m in EpisodeMessages(store, ID).step(
                i, 10 + 50_000_000 * i, {}, action, action, 0, 'v000003', ['open', 'stack_leave'],
                np.array(values, np.float32), i == 1, 1.0):
            writer.write(f'/cell_1/{topic}', kind, bytes(store.serialize_cdr(m, kind)), t)
    start_message(writer, event=1)


def test_messages_come_back_as_written(tmp_path):
    latched = TopicQos(durability='transient_local', depth=1)
    writer = BagWriter(tmp_path / 'run' / 'episodes', ID, qos={'/cell_1/note': latched})
    for i in range(50):
        writer.write('/cell_1/note', STRING, text(f'note {i}'), 1000 + i, 900 + i)
    assert writer.path.name == ID and not writer.path.exists()
    assert find_episodes(tmp_path) == []                    # a partial bag is no episode
    whole_episode(writer)
    path = writer.seal()
    assert path == writer.path and find_episodes(tmp_path) == [path]
    assert not writer.partial.exists()
    with AnyReader([path]) as reader:
        notes = [(c, t, d) for c, t, d in reader.messages() if c.topic == '/cell_1/note']
        assert [d for _, _, d in notes] == [text(f'note {i}') for i in range(50)]
        assert [t for _, t, _ in notes] == list(range(1000, 1050))
        qos = notes[0][0].ext.offered_qos_profiles[0]
        assert (qos.durability, qos.reliability, qos.depth) == (
            QosDurability.TRANSIENT_LOCAL, QosReliability.RELIABLE, 1)


def test_publish_times_and_both_metadata_copies(tmp_path):
    from mcap.reader import make_reader

    writer = BagWriter(tmp_path, ID)
    whole_episode(writer)
    writer.write('/x', STRING, text('a'), 2000, 1500)
    path = writer.seal()
    text_of = (path / 'metadata.yaml').read_text()
    assert '&' not in text_of and '*' not in text_of        # no anchors: simple readers need not know them
    info = yaml.safe_load(text_of)['rosbag2_bagfile_information']
    assert info['version'] == 9 and info['storage_identifier'] == 'mcap' and info['message_count'] == 9
    assert info['starting_time']['nanoseconds_since_epoch'] == 10 and info['duration']['nanoseconds'] == 58_000_000
    assert all(isinstance(v, str) for v in info['custom_data'].values())
    assert info['custom_data']['termination_reason'] == 'time_limit'
    assert {t['topic_metadata']['name']: t['message_count'] for t in info['topics_with_message_count']} == {
        '/cell_1/episode': 2, '/cell_1/tick': 2, '/cell_1/action': 1, '/cell_1/command': 1, '/cell_1/step': 2, '/x': 1}
    for t in info['topics_with_message_count']:
        assert t['topic_metadata']['type_description_hash'].startswith('RIHS01_')
    with open(path / f'{ID}_0.mcap', 'rb') as f:
        reader = make_reader(f, validate_crcs=True)
        assert reader.get_header().profile == 'ros2'
        times = {c.topic: (m.log_time, m.publish_time) for _, c, m in reader.iter_messages()}
        assert times['/x'] == (2000, 1500)
        stored = next(m for m in reader.iter_metadata() if m.name == 'rosbag2').metadata
        assert yaml.safe_load(stored['serialized_metadata']) == info


def test_schema_text_keeps_the_units(tmp_path):
    writer = BagWriter(tmp_path, ID)
    whole_episode(writer)
    with AnyReader([writer.seal()]) as reader:
        assert '# N, largest wrist force seen' in reader.connections[0].msgdef.data


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / ID).mkdir()
    with pytest.raises(BagError, match='exists already'):
        BagWriter(tmp_path, ID)
    (tmp_path / ID).rmdir()
    writer = BagWriter(tmp_path, ID)
    with pytest.raises(BagError, match='cannot be made'):
        BagWriter(tmp_path, ID)
    whole_episode(writer)
    (tmp_path / ID).mkdir()                                 # made while recording
    with pytest.raises(BagError, match='exists already'):
        writer.seal()
    assert list((tmp_path / ID).iterdir()) == [] and writer.partial.is_dir()


@pytest.mark.parametrize('name', ['', '.', '..', '.hidden', 'a/b', '/etc/x'])
def test_names_that_are_no_folder_names(tmp_path, name):
    with pytest.raises(BagError, match='cannot name'):
        BagWriter(tmp_path, name)


def test_abandoned_bags_stay_partial(tmp_path):
    writer = BagWriter(tmp_path, ID)
    start_message(writer)
    writer.abandon()
    writer.abandon()
    assert writer.partial.is_dir() and find_episodes(tmp_path) == []
    for call in (writer.seal, lambda: start_message(writer)):
        with pytest.raises(BagError, match='closed'):
            call()


def test_refuses_what_it_cannot_describe(tmp_path):
    writer = BagWriter(tmp_path, ID)
    with pytest.raises(BagError, match='no_msgs/msg/Nothing'):
        writer.write('/x', 'no_msgs/msg/Nothing', b'', 1)
    writer.write('/x', STRING, text('a'), 1)
    with pytest.raises(BagError, match='not std_msgs/msg/Bool'):
        writer.write('/x', 'std_msgs/msg/Bool', b'', 2)
    with pytest.raises(BagError, match='no EpisodeInfo'):
        writer.seal()                                       # messages, but no episode
    whole_episode(writer)
    assert Episode.open(writer.seal()).record.triplet == 2  # still good after those mistakes


def test_a_full_disk_is_one_clear_error(tmp_path):
    """A file size limit stands in for the full disk: the same OSError from the same write."""
    writer = BagWriter(tmp_path, ID)
    start_message(writer)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, old[1]))
    try:
        with pytest.raises(BagError, match='writing failed') as error:
            for i in range(100):
                writer.write('/x', STRING, text('x' * 10_000), i)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert '\n' not in str(error.value) and ID in str(error.value)
    with pytest.raises(BagError, match='closed'):
        writer.seal()
    assert find_episodes(tmp_path) == [] and writer.partial.is_dir()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(BagError, match='cannot be made'):
        BagWriter(tmp_path / 'file' / 'episodes', ID)


def test_everything_is_synced_before_the_name_appears(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, os.rename

    def traced_fsync(fd):
        events.append(os.readlink(f'/proc/self/fd/{fd}'))
        fsync(fd)

    def traced_rename(a, b):
        events.append('rename')
        rename(a, b)

    monkeypatch.setattr(os, 'fsync', traced_fsync)
    monkeypatch.setattr(os, 'rename', traced_rename)
    writer = BagWriter(tmp_path, ID)
    whole_episode(writer)
    writer.seal()
    names = [os.path.basename(e) for e in events]
    assert names == [f'{ID}_0.mcap', 'metadata.yaml', 'audit.json', writer.partial.name, 'rename', tmp_path.name]


def test_folders_that_are_made_are_synced_into_those_above(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, 'fsync', lambda fd: synced.append(os.readlink(f'/proc/self/fd/{fd}')))
    BagWriter(tmp_path / 'run' / 'episodes', ID).abandon()
    assert synced == [str(tmp_path), str(tmp_path / 'run')]


def test_the_quarantine_is_synced_as_well(tmp_path, monkeypatch):
    events = []
    rename = os.rename
    monkeypatch.setattr(os, 'fsync', lambda fd: events.append(os.readlink(f'/proc/self/fd/{fd}')))
    monkeypatch.setattr(os, 'rename', lambda a, b: (events.append('rename'), rename(a, b)))
    writer = BagWriter(tmp_path, ID)
    start_message(writer)
    with pytest.raises(AuditError, match='no Steps'):
        writer.seal(reason='shutdown')
    names = [os.path.basename(e) for e in events]
    assert names == [f'{ID}_0.mcap', 'metadata.yaml', 'reasons.json', writer.partial.name, tmp_path.name, 'rename',
                     'quarantine', tmp_path.name]


@pytest.mark.parametrize('fault', ['metadata.yaml', 'audit.json', 'rename'])
def test_a_disk_that_fails_while_sealing_leaves_the_bag_for_recovery(tmp_path, monkeypatch, fault):
    from chef_task.bag import writer as module
    from chef_task.bag.recover import recover

    def broken(*args):
        raise OSError(5, 'Input/output error')

    writer = BagWriter(tmp_path, ID)
    whole_episode(writer)
    with monkeypatch.context() as patch:
        if fault == 'rename':
            patch.setattr(os, 'rename', broken)
        else:
            write_new = module.write_new
            patch.setattr(module, 'write_new',
                          lambda path, text: broken() if path.name == fault else write_new(path, text))
        with pytest.raises(BagError, match='sealing failed: Input/output error'):
            writer.seal()
    assert writer.partial.is_dir() and find_episodes(tmp_path) == []
    assert recover(writer.partial).bag == tmp_path / ID and find_episodes(tmp_path) == [tmp_path / ID]


def test_flush_hands_slow_traffic_to_the_system(tmp_path):
    writer = BagWriter(tmp_path, ID)
    file = writer.partial / f'{ID}_0.mcap'
    start_message(writer)
    before = file.stat().st_size
    writer.flush(age_s=60)
    assert file.stat().st_size == before        # it has not waited that long
    writer.flush()
    flushed = file.stat().st_size
    assert flushed > before
    writer.flush()                              # nothing new: no empty chunk
    assert file.stat().st_size == flushed


def test_free_bytes(tmp_path):
    assert free_bytes(tmp_path / 'not' / 'there' / 'yet') > 0


def test_qos_of_a_discovered_profile():
    """Discovery does not tell history and depth: they get rosbag2's defaults."""
    def policy(name):
        return SimpleNamespace(name=name)

    seen = SimpleNamespace(reliability=policy('BEST_EFFORT'), durability=policy('VOLATILE'),
                           history=policy('UNKNOWN'), depth=0)
    assert TopicQos.of(seen) == TopicQos('best_effort', 'volatile', 'keep_last', 10)
