# SPDX-License-Identifier: Apache-2.0
"""The nodes as processes, with real rclpy, fed with the messages of a made-up bag."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import SMALL

rclpy = pytest.importorskip('rclpy')
chef_msgs = pytest.importorskip('chef_msgs.msg')

from chef_learning import policy_files  # noqa: E402
from chef_task.bag import Episode, files  # noqa: E402
from chef_task.bag.synthetic import write_synthetic_episode  # noqa: E402
from chef_task.qos import profile  # noqa: E402
from chef_task.spaces import STREAMS, streams_of  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'chef_control' / 'test'))

from ros_domain import domain  # noqa: E402

DOMAIN = str(domain(0))
# Bounds a learner that hangs, not how fast it starts: several processes load PyTorch at once, 20 s were too few on two
# busy cores.
START_S = 90
POLICY = '''
import numpy as np
class Sum:
    version = 'sum'
    def reset(self): self.n = 0
    def act(self, o):
        self.n += 1
        s = sum(float(np.sum(v, dtype=np.float64)) for v in o.values())
        return np.sin(np.arange(5) + s + self.n)
'''


def start(node, folder, **parameters):
    arguments = [a for k, v in parameters.items() for a in ('-p', f'{k}:={v}')]
    code = f'from chef_learning.nodes.{node} import main; main()'
    python_path = f'{folder}:{os.environ.get("PYTHONPATH", "")}'
    env = {**os.environ, 'ROS_DOMAIN_ID': DOMAIN, 'PYTHONPATH': python_path}
    return subprocess.Popen([sys.executable, '-c', code, '--ros-args', '-r', '__ns:=/cell_1', *arguments],
                            env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stop(process):
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    return time.monotonic() - begin, out + err


class Cell:
    """A node that publishes what a bag holds and collects what comes back."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=int(DOMAIN))
        self.node = rclpy.create_node('cell', namespace='/cell_1', context=self.context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.publishers, self.actions, self.states, self.versions = {}, [], [], []
        m = chef_msgs
        self.node.create_subscription(m.Action, 'action', self.actions.append, profile('stream'))
        self.node.create_subscription(m.PolicyState, 'policy/state', self.states.append, profile('state'))
        from std_msgs.msg import String
        self.node.create_subscription(String, 'policy_version', self.versions.append, profile('state'))
        self.episode = self.node.create_publisher(m.EpisodeInfo, 'episode', profile('state'))
        self.tick = self.node.create_publisher(m.Tick, 'tick', profile('stream'))

    def sensors(self, streams):
        from chef_control.sensors import message_class
        for name in streams:
            self.publishers[name] = self.node.create_publisher(
                message_class(STREAMS[name].msgtype), STREAMS[name].topic, profile('sensor', lockstep=True))

    def until(self, condition, timeout_s=10.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, 'timed out'
            self.executor.spin_once(timeout_sec=0.05)

    def announce(self, episode_id, event=0):
        self.episode.publish(chef_msgs.EpisodeInfo(event=event, episode_id=episode_id))
        if event == 0:
            self.until(lambda: any(s.ready and s.episode_id == episode_id for s in self.states))

    def close(self):
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def cell():
    c = Cell()
    yield c
    c.close()


def test_another_policy_acts_from_the_next_episode_on(tmp_path, cell):
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter
    for name in ('first', 'second'):
        (tmp_path / f'{name}.py').write_text(POLICY.replace("'sum'", f"'{name}'"))
    process = start('policy_node', tmp_path, policy='first:Sum', observation='state', run_dir=tmp_path, lockstep=True)
    client = cell.node.create_client(SetParameters, 'policy/set_parameters')

    def choose(value, name='next_policy'):
        future = client.call_async(SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()]))
        cell.until(future.done)
        return future.result().results[0]

    def version():
        return cell.states[-1].policy_version
    try:
        cell.until(lambda: cell.states and client.service_is_ready(), START_S)
        assert choose('second:Sum').successful and version() == 'first'
        cell.announce('e1')
        assert version() == 'second'
        assert choose('first:Sum').reason == 'an episode is under way'
        cell.announce('e1', event=1)
        cell.until(lambda: not cell.states[-1].ready)
        assert 'no module' in choose('third:Sum').reason
        cell.announce('e2')
        assert version() == 'second'            # what could not be taken changes nothing
        cell.announce('e2', event=1)
        cell.until(lambda: not cell.states[-1].ready)
        assert "'dance' is no task" in choose('dance', 'next_task').reason and choose('lift', 'next_task').successful
        assert choose('').successful
        cell.announce('e3')
        assert version() == 'first'             # what it was started with
    finally:
        stop(process)


def raw_samples(episode, streams):
    """stream to stamp to serialised message."""
    out = {}
    for name in streams:
        topic = episode.topic(name)
        episode._stamped(name)
        out[name] = {stamp: data for stamp, (_, data) in episode._index[name].items()}
        assert topic in {c.topic for c in files.connections(episode.path, episode._files)}
    return out


def to_tick(step, episode_id):
    from chef_control.node import to_time
    t = chef_msgs.Tick(episode_id=episode_id, index=step.index, streams=list(step.stamps),
                       stamps=[to_time(s) for s in step.stamps.values()], last_action=step.last_action)
    t.header.stamp = to_time(step.stamp)
    return t


def test_policy_node_acts_on_what_the_ticks_name(tmp_path, cell):
    (tmp_path / 'mypolicy.py').write_text(POLICY)
    sys.path.insert(0, str(tmp_path))
    from mypolicy import Sum

    from chef_task.observation import History, features
    path = write_synthetic_episode(tmp_path / 'bags', 0, 8, 'pixels')
    episode = Episode.open(path)
    process = start('policy_node', tmp_path, policy='mypolicy:Sum', observation='pixels', lockstep='true',
                    run_dir=str(tmp_path))
    try:
        streams = streams_of('pixels')
        cell.sensors(streams)
        cell.until(lambda: all(p.get_subscription_count() for p in (*cell.publishers.values(), cell.tick)))
        cell.announce('e1')
        expected, policy, history = [], Sum(), History('pixels')
        policy.reset()
        raw, sent = raw_samples(episode, streams), set()
        for step, samples in episode.iterate():
            ticked = step.index % 2
            if ticked:      # the tick may be there before or after its samples
                cell.tick.publish(to_tick(step, 'e1'))
            for name, stamp in step.stamps.items():
                if (name, stamp) not in sent:
                    cell.publishers[name].publish(raw[name][stamp])
                    sent.add((name, stamp))
            if not ticked:
                cell.tick.publish(to_tick(step, 'e1'))
            cell.until(lambda: len(cell.actions) > step.index)
            expected.append(policy.act(history.push(features(samples, step.last_action))).astype(np.float32))
        for i, (action, a) in enumerate(zip(cell.actions, expected)):
            assert (action.index, action.episode_id) == (i, 'e1')
            assert (action.policy_version, action.task) == ('sum', 5)
            assert np.array_equal(action.action, a) and 0 < action.inference_ms < 1000
        cell.announce('e1', event=1)
        cell.until(lambda: not cell.states[-1].ready)
    finally:
        took, _ = stop(process)
    assert took < 2


def test_policy_node_says_why_its_policy_failed_and_goes_on_with_the_next_episode(tmp_path, cell):
    (tmp_path / 'failing.py').write_text(POLICY.replace("version = 'sum'", "version = 'failing'").replace(
        's = sum', "if self.n == 2: raise RuntimeError('two is enough')\n        s = sum"))
    episode = Episode.open(write_synthetic_episode(tmp_path / 'bags', 0, 3, 'state'))
    process = start('policy_node', tmp_path, policy='failing:Sum', observation='state', run_dir=str(tmp_path))
    try:
        streams = streams_of('state')
        cell.sensors(streams)
        cell.until(lambda: all(p.get_subscription_count() for p in (*cell.publishers.values(), cell.tick)))
        for name, messages in raw_samples(episode, streams).items():
            for data in messages.values():
                cell.publishers[name].publish(data)
        for number in ('e1', 'e2'):
            cell.announce(number)
            before = len(cell.actions)
            for step in episode.steps()[:2]:
                cell.tick.publish(to_tick(step, number))
                cell.until(lambda: len(cell.actions) > before + step.index)
            assert np.isfinite(cell.actions[-2].action).all() and np.isnan(cell.actions[-1].action).all()
            cell.until(lambda: cell.states[-1].error)
            assert (cell.states[-1].episode_id, cell.states[-1].ready) == (number, False)
            assert cell.states[-1].error == 'RuntimeError: two is enough'
    finally:
        stop(process)


@pytest.mark.parametrize('parameters, message', [
    ({'policy': 'nonsense'}, 'none of latest, random'),
    ({'policy': 'no_module_x:P'}, "no module 'no_module_x'"),
    ({'policy': 'random', 'observation': 'sound'}, 'observation'),
    ({'policy': 'random', 'run_dir': 'x'}, 'absolute')])
def test_policy_node_refuses(tmp_path, parameters, message):
    parameters = {'observation': 'state', 'run_dir': tmp_path, **parameters}
    process = start('policy_node', tmp_path, **parameters)
    _, error = process.communicate(timeout=10)
    assert process.returncode == 2 and message in error and error.count('\n') == 1, error


def test_learner_node(tmp_path, cell):
    config = tmp_path / 'learner.yaml'
    config.write_text(yaml.safe_dump({**SMALL, 'observation': 'state'}))
    parameters = {'learner_config': config, 'observation': 'state', 'run_dir': tmp_path / 'run',
                  'publish_period_s': 0.2}
    process = start('learner_node', tmp_path, **parameters)
    try:
        episodes = tmp_path / 'run' / 'episodes'
        write_synthetic_episode(episodes, 0, 10, 'state')
        (episodes / 'broken').mkdir()
        (episodes / 'broken' / 'metadata.yaml').write_text('x')
        write_synthetic_episode(episodes, 1, 10, 'state')
        cell.until(lambda: len(cell.versions) >= 2, START_S)
        second = start('learner_node', tmp_path, **parameters)
        _, error = second.communicate(timeout=START_S)
        assert second.returncode == 2 and 'another learner' in error
    finally:
        took, log = stop(process)
    assert took < 2 and 'broken' in log
    assert list((tmp_path / 'run' / 'learner' / 'checkpoints').iterdir())
    newest = policy_files.versions(tmp_path / 'run' / 'policies')[-1]
    assert newest.name >= cell.versions[-1].data > 'v000001'


def test_learner_node_refuses_another_observation(tmp_path):
    config = Path(tmp_path / 'learner.yaml')
    config.write_text('observation: state')
    process = start('learner_node', tmp_path, learner_config=config, observation='pixels', run_dir=tmp_path)
    _, error = process.communicate(timeout=START_S)
    assert process.returncode == 2 and 'is for observation state' in error and error.count('\n') == 1
