# SPDX-License-Identifier: Apache-2.0
"""Damaged, foreign and missing bags: always one BagError of one line that names the bag."""

import dataclasses
import os
import resource
import shutil

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer

from chef_task.bag import AuditError, BagError, Episode, find_episodes, read_summary
from chef_task.bag.definitions import typestore

FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_all(path):
    """Everything a learner reads of a bag."""
    episode = Episode.open(path)
    for _ in episode.features():
        pass
    for stream in ('joints', 'wrench', 'objects'):
        episode.series(stream)
    return episode.record


def refused(path, read=read_all) -> str:
    """The text of the BagError that reading raises."""
    with pytest.raises(BagError) as error:
        read(path)
    text = str(error.value)
    assert path.name in text and '\n' not in text
    return text


def mcap_of(bag):
    return next(bag.glob('*.mcap'))


@pytest.mark.parametrize('keep', [0.0, 0.001, 0.3, 0.7, 0.999])
def test_truncated(bag_copy, keep):
    data = mcap_of(bag_copy).read_bytes()
    mcap_of(bag_copy).write_bytes(data[:int(len(data) * keep)])
    assert 'truncated' in refused(bag_copy)
    refused(bag_copy, read_summary)


def test_mcap_missing(bag_copy):
    mcap_of(bag_copy).unlink()
    assert 'missing' in refused(bag_copy)
    assert 'missing' in refused(bag_copy, read_summary)


@FEW
@given(st.data())
def test_flipped_bytes_never_pass_silently(state_bag, tmp_path, data):
    """Either the checksums find it, or it is in a part that does not matter to what is read."""
    bag = tmp_path / state_bag.name
    shutil.copytree(state_bag, bag, dirs_exist_ok=True)
    content = bytearray(mcap_of(bag).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    mcap_of(bag).write_bytes(content)
    try:
        assert read_all(bag) == read_all(state_bag)
    except BagError as e:
        assert '\n' not in str(e)


@FEW
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_garbage_metadata(state_bag, tmp_path, garbage):
    bag = tmp_path / state_bag.name
    shutil.copytree(state_bag, bag, dirs_exist_ok=True)
    (bag / 'metadata.yaml').write_bytes(garbage)
    assert 'metadata.yaml' in refused(bag)
    refused(bag, read_summary)


LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.floats()
TREES = st.recursive(
    LEAVES, lambda x: st.lists(x, max_size=2) | st.dictionaries(st.text(max_size=4), x, max_size=2), max_leaves=4)


@FEW
@given(st.data(), TREES)
def test_metadata_of_a_wrong_shape(state_bag, tmp_path, data, value):
    """One entry replaced by something else: the messages can still be read, or the error is ours."""
    bag = tmp_path / state_bag.name
    shutil.copytree(state_bag, bag, dirs_exist_ok=True)
    whole = yaml.safe_load((state_bag / 'metadata.yaml').read_text())
    info = whole['rosbag2_bagfile_information']
    place = data.draw(st.sampled_from([info, info['custom_data'], whole]))
    place[data.draw(st.sampled_from(sorted(place)))] = value
    (bag / 'metadata.yaml').write_text(yaml.safe_dump(whole, sort_keys=False))
    for read in (read_all, read_summary):
        try:
            read(bag)
        except BagError as e:
            assert '\n' not in str(e)


def test_no_summary_in_the_metadata(bag_copy):
    record = read_summary(bag_copy)
    whole = yaml.safe_load((bag_copy / 'metadata.yaml').read_text())
    whole['rosbag2_bagfile_information']['custom_data'] = None
    (bag_copy / 'metadata.yaml').write_text(yaml.safe_dump(whole))
    assert read_summary(bag_copy) == record == Episode.open(bag_copy).record


def test_foreign_bag(tmp_path):
    """Anybody's bag, without an EpisodeInfo."""
    store = typestore()
    with Writer(tmp_path / 'theirs', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection('/chatter', 'std_msgs/msg/String', typestore=store)
        writer.write(topic, 5, store.serialize_cdr(store.types['std_msgs/msg/String']('hi'), topic.msgtype))
    assert 'not an episode' in refused(tmp_path / 'theirs')
    assert 'not an episode' in refused(tmp_path / 'theirs', read_summary)


def test_sqlite_bag(tmp_path):
    with Writer(tmp_path / 'db', version=9, storage_plugin=StoragePlugin.SQLITE3):
        pass
    assert 'not an MCAP file' in refused(tmp_path / 'db')


def test_no_bag_at_all(tmp_path):
    (tmp_path / 'empty').mkdir()
    assert 'not a bag' in refused(tmp_path / 'empty')
    assert 'no such bag' in refused(tmp_path / 'gone')
    (tmp_path / 'file.txt').write_text('x')
    assert 'not a bag' in refused(tmp_path / 'file.txt')
    assert find_episodes(tmp_path) == []


def test_a_partial_bag_is_not_read(bag_copy):
    (bag_copy / 'metadata.yaml').unlink()
    assert 'not sealed' in refused(bag_copy)


def test_steps_with_a_gap(tmp_path):
    from chef_task.bag import BagWriter

    path = tmp_path / 'whole'
    from chef_task.bag.synthetic import write_synthetic_episode
    whole = Episode.open(write_synthetic_episode(path, 0, 6, 'state'))
    store, writer = typestore(), BagWriter(tmp_path, 'gap')
    for topic, (msgtype, _) in whole.topics().items():
        for i, (t, m) in enumerate(whole.messages(topic)):
            if not (topic == '/cell_1/step' and i == 3):
                writer.write(topic, msgtype, bytes(store.serialize_cdr(m, msgtype)), t)
    with pytest.raises(AuditError, match='have a gap') as error:
        writer.seal()
    assert 'gaps' in refused(error.value.path)      # nor is it read where it is kept for people


@pytest.fixture
def little_memory():
    """This process may take 256 MiB more than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(open('/proc/self/statm').read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_length_asks_for_no_more_than_the_file_has(bag_copy, little_memory):
    """The header's 8 bytes of length say 4 GiB."""
    data = mcap_of(bag_copy).read_bytes()
    mcap_of(bag_copy).write_bytes(data[:9] + (1 << 32).to_bytes(8, 'little') + data[17:])
    with pytest.raises(BagError) as error:
        Episode.open(bag_copy)
    assert not isinstance(error.value.__cause__, MemoryError)


def test_a_chunk_is_not_decompressed_beyond_what_it_states(bag_copy, little_memory):
    """Half a GiB of zeros in a few KB, that says it is 100 bytes."""
    import io

    import mcap.writer
    from rosbags.rosbag2.storage_mcap import zstd
    sound = zstd.compress(bytes(100))
    bomb = b''.join(zstd.compress(bytes(1 << 23)) for _ in range(64))
    file = io.BytesIO()
    writer = mcap.writer.Writer(file, compression=mcap.writer.CompressionType.ZSTD, enable_crcs=False)
    writer.start('ros2')
    writer.finish()
    data = file.getvalue()
    # a chunk record of its own before the summary, found by scanning since no index tells of it
    body = bytes(16) + (100).to_bytes(8, 'little') + bytes(4) + (4).to_bytes(4, 'little') + b'zstd'
    end = data.index(b'\x0f', 30)
    for content in (sound, bomb):
        chunk = body + len(content).to_bytes(8, 'little') + content
        foot = b'\x02' + (20).to_bytes(8, 'little') + bytes(20) + data[-8:]
        mcap_of(bag_copy).write_bytes(data[:end] + b'\x06' + len(chunk).to_bytes(8, 'little') + chunk + foot)
        with pytest.raises(BagError) as error:
            Episode.open(bag_copy)
        assert not isinstance(error.value.__cause__, MemoryError)


def test_a_pipe_is_not_waited_for(bag_copy):
    os.rename(mcap_of(bag_copy), bag_copy / 'kept')
    os.mkfifo(bag_copy / 'x.mcap')
    assert 'missing' in refused(bag_copy, read_summary)


def test_a_step_that_names_too_little(tmp_path):
    from chef_task.bag import BagWriter
    from chef_task.bag.synthetic import write_synthetic_episode
    whole = Episode.open(write_synthetic_episode(tmp_path / 'whole', 0, 3, 'state'))
    store, writer = typestore(), BagWriter(tmp_path, 'less')
    for topic, (msgtype, _) in whole.topics().items():
        for t, m in whole.messages(topic):
            if topic == '/cell_1/step' and m.index == 2:
                m = dataclasses.replace(m, streams=m.streams[1:], stamps=m.stamps[1:])
            writer.write(topic, msgtype, bytes(store.serialize_cdr(m, msgtype)), t)
    try:
        path = writer.seal()
    except AuditError as e:
        path = e.path
    assert 'step 2' in refused(path)
