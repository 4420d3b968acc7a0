# SPDX-License-Identifier: Apache-2.0
"""What a crash left becomes a valid bag that claims no more than is true, or there is one clear error."""

import hashlib
import os
import shutil
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from rosbags.rosbag2 import StoragePlugin, Writer

from chef_task.bag import BagError, BagWriter, Episode, find_episodes, read_summary
from chef_task.bag.audit import audit
from chef_task.bag.cli import main
from chef_task.bag.definitions import typestore
from chef_task.bag.recover import REASON, find_crashed, recover
from chef_task.bag.synthetic import write_synthetic_episode

FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def digest(folder) -> str:
    files = sorted(p for p in folder.rglob('*') if p.is_file())
    return hashlib.sha256(b''.join(str(p).encode() + p.read_bytes() for p in files)).hexdigest()


def mcap_of(bag):
    return next(bag.glob('*.mcap'))


def crashed(bag, folder, size=None):
    """A partial bag as a killed recorder leaves it, with the first `size` bytes."""
    partial = folder / f'.{bag.name}.partial'
    partial.mkdir(parents=True)
    data = mcap_of(bag).read_bytes()
    (partial / mcap_of(bag).name).write_bytes(data[:size])
    return partial


@pytest.fixture(scope='module')
def state_bag(tmp_path_factory):
    """A short episode in as many chunks as the recorder makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('chef_task.bag.writer.CHUNK_BYTES', 5000)
        return write_synthetic_episode(tmp_path_factory.mktemp('chunks'), seed=2, steps=20, observation='state')


@pytest.fixture(scope='module')
def chunks(state_bag):
    """Byte at which each chunk of the episode's file ends."""
    with open(mcap_of(state_bag), 'rb') as f:
        return [c.chunk_start_offset + c.chunk_length for c in make_reader(f).get_summary().chunk_indexes]


def check_recovered(r, bag, source):
    """The new bag is sound, holds a prefix of the old one's Steps, and claims no success that it has not seen."""
    record, old, features = contents_of(bag)
    new = Episode.open(r.bag)
    assert audit(r.bag).faults == () and r.bag in find_episodes(r.bag.parent)
    steps = [vars_of(s) for s in new.steps()]
    assert len(steps) == r.steps and steps == old[:len(steps)]
    summary = read_summary(r.bag)
    assert summary.metadata['recovered']['from'] == source.name
    for (_, a), b in zip(new.features(), features):
        assert all((a[k] == b[k]).all() for k in a)
    if new.record.termination_reason == REASON:
        assert not new.record.success and not summary.success and 'the end of the episode' in r.lost
    else:
        assert len(steps) == len(old) and new.record == record
    return new


@cache
def contents_of(bag):
    """Its record, its Steps as plain values, and the features of each."""
    episode = Episode.open(bag)
    return episode.record, [vars_of(s) for s in episode.steps()], [f for _, f in episode.features()]


def vars_of(step):
    return {k: v.tolist() if hasattr(v, 'tolist') else v for k, v in vars(step).items()}


@FEW
@given(st.data())
def test_cut_at_any_byte(state_bag, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp('cut')
    size = data.draw(st.integers(0, mcap_of(state_bag).stat().st_size))
    source = crashed(state_bag, folder, size)
    before = digest(source)
    try:
        r = recover(source)
    except BagError as e:
        assert '\n' not in str(e) and source.name in str(e)
        assert list(folder.iterdir()) == [source]
    else:
        assert r.made and r.bag == folder / state_bag.name
        check_recovered(r, state_bag, source)
        again = recover(source)
        assert not again.made and again.bag == r.bag
        assert sorted(p.name for p in folder.iterdir()) == [source.name, state_bag.name]
    assert digest(source) == before


@FEW
@given(st.data())
def test_any_flipped_byte(state_bag, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp('flip')
    content = bytearray(mcap_of(state_bag).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    source = crashed(state_bag, folder)
    mcap_of(source).write_bytes(content)
    try:
        check_recovered(recover(source), state_bag, source)
    except BagError as e:
        assert '\n' not in str(e) and list(folder.iterdir()) == [source]


@FEW
@given(st.binary(max_size=300) | st.lists(st.sampled_from(
    [b'\x89MCAP0\r\n', bytes(40), b'\x06' + (5).to_bytes(8, 'little') + bytes(5), b'\x0f' + bytes(12)])).map(b''.join))
def test_garbage_is_one_clear_error(tmp_path_factory, content):
    file = tmp_path_factory.mktemp('garbage') / 'x.mcap'
    file.write_bytes(content)
    with pytest.raises(BagError, match='cannot be read|not an episode'):
        recover(file)
    assert list(file.parent.iterdir()) == [file]


def test_every_chunk_more_gives_more_steps(state_bag, tmp_path, chunks):
    ends = chunks[len(chunks) // 2::3] + chunks[-1:]
    counts = [recover(crashed(state_bag, tmp_path / str(end), end)).steps for end in ends]
    assert counts == sorted(counts) and counts[-1] == 21 and len(set(counts)) > 3


def test_a_bag_that_lacks_only_its_index_is_what_its_end_says(state_bag, tmp_path, chunks):
    """Killed between the end of the episode and sealing."""
    source = crashed(state_bag, tmp_path, chunks[-1])
    new = check_recovered(recover(source), state_bag, source)
    assert new.record == Episode.open(state_bag).record and new.record.termination_reason == 'time_limit'


def test_success_is_never_claimed_without_an_end(tmp_path):
    bag = write_synthetic_episode(tmp_path / 'whole', 3, 40, 'state')
    assert read_summary(bag).success
    source = tmp_path / 'run' / f'.{bag.name}.partial'
    writer = BagWriter(source.parent, bag.name)
    store, episode = typestore(), Episode.open(bag)
    for topic, (msgtype, _) in episode.topics().items():
        for t, m in episode.messages(topic):
            if not (msgtype == 'chef_msgs/msg/EpisodeInfo' and m.event == 1):
                writer.write(topic, msgtype, bytes(store.serialize_cdr(m, msgtype)), t)
    writer.flush()
    writer.abandon()
    r = recover(source)
    assert r.steps == 41 and not read_summary(r.bag).success       # all Steps are there, the END is not
    assert read_summary(r.bag).termination_reason == REASON


def test_a_sealed_bag_that_was_cut_off_later(state_bag, tmp_path):
    bag_copy = shutil.copytree(state_bag, tmp_path / state_bag.name)
    data = mcap_of(bag_copy).read_bytes()
    mcap_of(bag_copy).write_bytes(data[:len(data) // 2])
    before = digest(bag_copy)
    r = recover(bag_copy)
    assert r.bag == bag_copy.parent / f'{bag_copy.name}-recovered' and digest(bag_copy) == before
    assert not recover(bag_copy).made
    assert Episode.open(r.bag).steps()


def test_topics_definitions_and_qos_are_those_of_the_original(pixel_bag, tmp_path):
    source = crashed(pixel_bag, tmp_path, mcap_of(pixel_bag).stat().st_size // 2)
    new, whole = Episode.open(recover(source).bag), Episode.open(pixel_bag)
    by_topic = {c.topic: c for c in whole._connections}
    assert new.observation == 'pixels' and len(new._connections) == len(by_topic)
    for c in new._connections:
        old = by_topic[c.topic]
        assert (c.msgdef, c.digest) == (old.msgdef, old.digest)
        assert c.ext.offered_qos_profiles == old.ext.offered_qos_profiles


def test_a_bag_that_is_being_written_is_refused(state_bag, tmp_path):
    source = tmp_path / '.live.partial'
    writer = BagWriter(tmp_path, 'live')
    writer.write('/x', 'std_msgs/msg/String', b'\0\1\0\0\1\0\0\0\0', 1)
    with pytest.raises(BagError, match='still being written'):
        recover(source)
    writer.abandon()
    with pytest.raises(BagError, match='START cannot be read'):
        recover(source)


def test_what_a_killed_recovery_left_is_cleared(state_bag, tmp_path):
    source = crashed(state_bag, tmp_path, 60_000)
    left = tmp_path / f'.{state_bag.name}.recovering'
    left.mkdir()
    (left / 'x.mcap').write_bytes(b'half')
    assert recover(source).made and not left.exists()
    (tmp_path / 'out').mkdir()
    assert recover(source, tmp_path / 'out').bag.parent == tmp_path / 'out'


def test_another_bag_in_its_place_is_left_alone(state_bag, tmp_path):
    source = crashed(state_bag, tmp_path, 60_000)
    other = write_synthetic_episode(tmp_path, 5, 3, 'state')
    other.rename(tmp_path / state_bag.name)
    with pytest.raises(BagError, match='is another episode'):
        recover(source)
    mcap_of(tmp_path / state_bag.name).write_bytes(b'x')
    with pytest.raises(BagError, match='exists already and is not sound'):
        recover(source)


def test_what_is_looked_at(state_bag, tmp_path):
    run = tmp_path / 'run'
    sound = shutil.copytree(state_bag, run / 'episodes' / state_bag.name)
    assert find_crashed(run) == []
    partial = crashed(state_bag, run / 'episodes', 100)
    cut = shutil.copytree(state_bag, run / 'episodes' / 'cut')
    mcap_of(cut).write_bytes(b'\x89MCAP0')
    unsealed = shutil.copytree(state_bag, run / 'episodes' / 'unsealed')
    (unsealed / 'metadata.yaml').unlink()
    shutil.copytree(cut, run / 'episodes' / 'quarantine' / 'cut')
    assert find_crashed(run) == sorted([partial, cut, unsealed], key=lambda p: p.name.lstrip('.'))
    assert find_crashed(partial) == [partial] and find_crashed(sound) == [sound]


def test_the_command(state_bag, tmp_path, capsys):
    run = tmp_path / 'run'
    source = crashed(state_bag, run / 'episodes', 60_000)
    assert main(['recover', str(run)]) == 0
    assert f'recovered: {source} to {run / "episodes" / state_bag.name}: ' in capsys.readouterr().out
    assert main(['recover', str(run)]) == 0
    assert 'nothing to do' in capsys.readouterr().out
    assert main(['check', str(run)]) == 0
    hopeless = run / 'episodes' / '.empty.partial'
    hopeless.mkdir()
    assert main(['recover', str(run)]) == 1
    assert 'failed: ' in (out := capsys.readouterr().out) and 'holds no MCAP files' in out and '1 of 2' in out
    assert main(['recover', str(tmp_path / 'nowhere')]) == 2
    assert main(['recover', str(run / 'episodes' / state_bag.name)]) == 0
    assert 'is whole' in capsys.readouterr().out


@pytest.mark.parametrize('plugin, error', [
    (StoragePlugin.MCAP, 'not an episode'), (StoragePlugin.SQLITE3, 'sqlite3')])
def test_bags_of_other_programs_are_refused(tmp_path, plugin, error):
    store = typestore()
    with Writer(tmp_path / 'theirs', version=9, storage_plugin=plugin) as writer:
        topic = writer.add_connection('/chatter', 'std_msgs/msg/String', typestore=store)
        writer.write(topic, 5, store.serialize_cdr(store.types['std_msgs/msg/String']('hi'), topic.msgtype))
    assert find_crashed(tmp_path) == []             # it is whole: none of our business
    os.unlink(tmp_path / 'theirs' / 'metadata.yaml')
    assert find_crashed(tmp_path) == [tmp_path / 'theirs']
    with pytest.raises(BagError, match=error):
        recover(tmp_path / 'theirs')
