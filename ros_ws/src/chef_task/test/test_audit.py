# SPDX-License-Identifier: Apache-2.0
"""What the audit calls a fault, and what becomes of a bag that has one."""

import itertools
import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chef_task.bag import AuditError, BagWriter, Episode, find_episodes, read_summary
from chef_task.bag.audit import audit
from chef_task.bag.definitions import typestore
from chef_task.bag.files import find_bags, find_quarantined
from chef_task.bag.synthetic import write_synthetic_episode

ID = 'altered'
STORE = typestore()


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    return write_synthetic_episode(tmp_path_factory.mktemp('short'), seed=2, steps=30, observation='state')


def again(bag, folder, edit, **sealing):
    """Writes the bag anew; `edit(topic, message)` gives the messages to write in a message's place."""
    writer = BagWriter(folder, ID)
    episode = Episode.open(bag)
    messages = sorted(((t, i, topic, msgtype, m) for i, (topic, (msgtype, _)) in enumerate(episode.topics().items())
                       for t, m in episode.messages(topic)), key=lambda x: x[:2])
    for t, _, topic, msgtype, m in messages:
        for new in edit(topic.rsplit('/', 1)[1], m):
            writer.write(topic, msgtype, bytes(STORE.serialize_cdr(new, msgtype)), t)
    return writer.seal(**sealing)


def faults_of(bag, folder, edit, **sealing) -> str:
    with pytest.raises(AuditError) as error:
        again(bag, folder, edit, **sealing)
    assert error.value.path == folder / 'quarantine' / ID and error.value.path.is_dir()
    return '; '.join(error.value.faults)


def dropping(name, condition):
    return lambda topic, m: [] if topic == name and condition(m) else [m]


def thinning(name):
    """Every third message goes."""
    count = itertools.count()
    return dropping(name, lambda m: next(count) % 3 == 0)


def changing(name, condition, **values):
    def edit(topic, m):
        if topic == name and condition(m):
            for key, value in values.items():
                setattr(m, key, value(m) if callable(value) else value)
        return [m]
    return edit


def test_a_sound_bag_has_no_faults_and_its_figures_beside_it(bag):
    found = audit(bag)
    assert found.faults == () and audit(Episode.open(bag)).faults == ()
    stored = json.loads((bag / 'audit.json').read_text())
    assert stored['episode_id'] == bag.name and stored['faults'] == []
    wrench = found.figures['topics']['/cell_1/wrench']
    assert wrench == stored['topics']['/cell_1/wrench']
    assert wrench['rate_hz'] == pytest.approx(100) and wrench['largest_gap_s'] == pytest.approx(0.01)
    assert wrench['count'] == len(Episode.open(bag).series('wrench').stamps)
    assert found.figures['steps'] == 31 and found.figures['end']
    assert found.figures['checksums'] == {'data': True, 'summary': True}
    ages = found.figures['streams']['wrench']
    assert ages['limit_s'] == 0.1
    steps = Episode.open(bag).steps()
    assert ages['worst_age_s'] == pytest.approx(max(s.stamp - s.stamps['wrench'] for s in steps) * 1e-9, abs=1e-4)


def test_a_bag_written_anew_unchanged_is_sound(bag, tmp_path):
    sealed = again(bag, tmp_path, lambda topic, m: [m])
    assert find_episodes(tmp_path) == [sealed] and audit(sealed).faults == ()


@pytest.mark.parametrize('edit, fault', [
    (dropping('step', lambda m: m.index == 3), 'have a gap: at place 3 is 4'),
    (dropping('step', lambda m: m.last), '0 say that they are the last'),
    (lambda topic, m: [m, m] if topic == 'step' and m.index == 5 else [m], 'repeat: at place 6 is 5'),
    (changing('step', lambda m: m.index in (7, 8), index=lambda m: 15 - m.index), 'out of order: at place 7 is 8'),
    (changing('step', lambda m: m.index == 4, last=True), '2 say that they are the last'),
    (changing('step', lambda m: m.index == 4, episode_id='other'), 'several episodes'),
    (dropping('step', lambda m: True), 'no Steps'),
    (dropping('episode', lambda m: m.event == 0), 'START is missing'),
    (changing('episode', lambda m: m.event == 1, steps=29), 'END says 29 steps, the bag has 30'),
    (changing('episode', lambda m: m.event == 1, returns=lambda m: m.returns + 1), 'returns of its END'),
    (thinning('wrench'), 'wrench: samples of'),
    (dropping('objects', lambda m: True), 'objects: samples of 31 Steps are missing, the first of step 0'),
], ids=['missing step', 'no last step', 'repeated step', 'swapped steps', 'two last steps', 'step of another',
        'no steps', 'no start', 'count', 'returns', 'missing samples', 'missing stream'])
def test_faults(bag, tmp_path, edit, fault):
    assert fault in faults_of(bag, tmp_path, edit)
    assert find_episodes(tmp_path) == find_bags(tmp_path) == [] and not list(tmp_path.glob('.*'))


def a_gap(topic, m, stream='wrench', first=10, last=19):
    """Steps 10..19 all name what step 10 does: as if the stream had been silent for half a second."""
    if topic == 'step' and first <= m.index <= last:
        place = m.streams.index(stream)
        if m.index == first:
            a_gap.stamp = m.stamps[place]
        m.stamps[place] = a_gap.stamp
    return [m]


@pytest.mark.parametrize('reason', ['time_limit', 'policy_late:60 ms', 'stale_sensor:wrench'])
def test_a_gap_through_which_the_policy_acted_is_a_fault_however_it_ended(bag, tmp_path, reason):
    def edit(topic, m):
        if topic == 'episode' and m.event == 1:
            m.termination_reason, m.success = reason, False
        return a_gap(topic, m)
    assert 'the sample of step 19 is' in (found := faults_of(bag, tmp_path, edit))
    assert 'wrench' in found and 'the limit is 0.1 s' in found


def test_an_episode_that_ended_for_a_stale_sensor_is_not_at_fault(bag, tmp_path):
    """Its last Step names a sample that was 0.2 s old."""
    def edit(topic, m):
        if topic == 'episode' and m.event == 1:
            m.termination_reason, m.success = 'stale_sensor:wrench', False
        if topic == 'step' and m.index == 26:
            edit.stamp = m.stamps[m.streams.index('wrench')]
        if topic == 'step' and m.last:
            m.stamps[m.streams.index('wrench')] = edit.stamp
        return [m]

    sealed = again(bag, tmp_path, edit)
    assert json.loads((sealed / 'audit.json').read_text())['streams']['wrench']['worst_age_s'] >= 0.2


@pytest.mark.parametrize('reason, fault', [
    ('episode_node_lost', ''), ('shutdown', ''), ('recorder_lost:disk full', ''),
    ('time_limit', 'END is missing'), ('force_limit:21 N', 'END is missing'), ('unknown', 'END is missing')])
def test_without_an_end_only_a_lost_episode_is_true(bag, tmp_path, reason, fault):
    no_end = dropping('episode', lambda m: m.event == 1)
    if fault:
        assert fault in faults_of(bag, tmp_path, no_end, reason=reason)
    else:
        bag = again(bag, tmp_path, no_end, reason=reason)
        assert not read_summary(bag).success and read_summary(bag).termination_reason == reason


def test_counts_of_the_writer_are_believed_over_the_file(bag):
    counts = {topic: n for topic, (_, n) in Episode.open(bag).topics().items()}
    assert audit(bag, counts).faults == ()
    counts['/cell_1/wrench'] += 1
    (fault,) = audit(bag, counts).faults
    assert fault == f'/cell_1/wrench: the file holds {counts["/cell_1/wrench"] - 1} messages, ' \
                    f'{counts["/cell_1/wrench"]} were written'
    assert audit(bag, {**counts, '/cell_1/more': 2}).faults


def test_nothing_in_quarantine_is_overwritten_nor_found(bag, tmp_path):
    edit = dropping('step', lambda m: m.index == 3)
    first = faults_of(bag, tmp_path, edit)
    reasons = tmp_path / 'quarantine' / ID / 'reasons.json'
    assert json.loads(reasons.read_text())['faults'] == first.split('; ')
    before = reasons.read_bytes()
    with pytest.raises(Exception, match='exists already'):
        again(bag, tmp_path, edit)
    assert reasons.read_bytes() == before and (tmp_path / f'.{ID}.partial').is_dir()
    assert find_episodes(tmp_path) == find_episodes(tmp_path / 'quarantine') == []
    assert find_quarantined(tmp_path) == find_quarantined(tmp_path / 'quarantine') == [tmp_path / 'quarantine' / ID]


def test_an_audit_takes_little_time(pixel_bag):
    """A 400-step pixel episode took 0.11 s where it was measured; this one has 20 steps."""
    assert audit(pixel_bag).figures['seconds'] < 1.0


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_byte_is_found(bag, tmp_path, data):
    copy = shutil.copytree(bag, tmp_path / bag.name, dirs_exist_ok=True)
    file = data.draw(st.sampled_from([next(copy.glob('*.mcap')), copy / 'metadata.yaml']))
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    faults = audit(copy).faults
    assert all('\n' not in f for f in faults)
    if file.suffix == '.mcap':
        assert faults
    elif not faults:        # YAML knows several ways to write one thing
        assert read_summary(copy) == read_summary(bag)
