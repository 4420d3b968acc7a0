# SPDX-License-Identifier: Apache-2.0
"""An operator at the running cell: stops it, deactivates a node, tightens a limit, by standard services."""

from __future__ import annotations

import signal
import time

import pytest
from harness import Graph, no_process_left
from test_kill import ARGUMENTS, SLICE_NS, STOP_WITHIN_NS, motion, wait_until_moving

from chef_task.bag.files import find_episodes
from chef_task.bag.reader import Episode

ANSWER_S = 20.0


class Operator:
    """Calls services of a graph's cell from outside; a context."""

    def __init__(self, graph: Graph):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self._context = graph.context()
        self._node = rclpy.create_node('operator', namespace='/cell_1', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)

    def call(self, kind, service: str, request=None):
        client = self._node.create_client(kind, service)
        assert client.wait_for_service(ANSWER_S), f'no {service}'
        future = client.call_async(request or kind.Request())
        self._executor.spin_until_future_complete(future, ANSWER_S)
        assert future.done(), f'{service} did not answer'
        return future.result()

    def change(self, node: str, transition: int) -> bool:
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(ChangeState, f'{node}/change_state', request).success

    def __enter__(self) -> Operator:
        return self

    def __exit__(self, *_) -> None:
        self._node.destroy_node()
        self._context.try_shutdown()


def stopped_within_limit(graph: Graph, asked_at: int) -> bool:
    """Whether the arm stood still in time and has not moved since, by the simulated world's own record."""
    last = motion(graph.output)[-1]
    return not last['moving'] and last['stamp'] - asked_at <= STOP_WITHIN_NS + SLICE_NS


def wait_until_moving_in(graph: Graph, episode: int) -> None:
    graph.wait_for(rf'episode .*_{episode:06d} begins')
    end = time.monotonic() + 20
    while not motion(graph.output)[-1]['moving']:
        assert time.monotonic() < end, graph.text
        time.sleep(0.1)
    time.sleep(0.5)


def test_an_operator_deactivates_tightens_and_stops(tmp_path):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import GetState
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter
    from std_srvs.srv import Trigger

    with Graph(tmp_path / 'run', learner='false', **{**ARGUMENTS, 'steps': 4000}) as graph:
        with Operator(graph) as operator:   # before the arm moves: another participant costs all nodes some time
            for node in ('controller', 'safety'):
                operator.call(GetState, f'{node}/get_state')
            wait_until_moving(graph)
            assert operator.change('controller', Transition.TRANSITION_DEACTIVATE)
            answered_at = time.time_ns()
            graph.wait_for('the cell holds: controller is inactive')
            graph.wait_for('held by an operator: waits for all nodes to be active')
            assert stopped_within_limit(graph, answered_at), motion(graph.output)[-3:]
            assert operator.change('controller', Transition.TRANSITION_ACTIVATE)
            graph.wait_for('all nodes are active again')
            parameter = Parameter('force_limit_n', value=12.5).to_parameter_msg()
            request = SetParameters.Request(parameters=[parameter])
            assert operator.call(SetParameters, 'safety/set_parameters', request).results[0].successful
            wait_until_moving_in(graph, episode=2)
            assert operator.call(Trigger, 'safety/stop').success
            answered_at = time.time_ns()
            graph.wait_for('stopped by an operator: waits for safety/clear')
            assert not operator.call(Trigger, 'safety/rearm').success
            assert stopped_within_limit(graph, answered_at), motion(graph.output)[-3:]
            end = time.monotonic() + 10
            while not operator.call(Trigger, 'safety/clear').success:    # a stop holds for half a second at least
                assert time.monotonic() < end, 'the stop cannot be cleared'
                time.sleep(0.1)
            wait_until_moving_in(graph, episode=3)
        graph.process.send_signal(signal.SIGINT)
        assert graph.wait(60) == 130, graph.text
        assert not no_process_left(graph)
    first, second, *_ = (Episode.open(bag) for bag in find_episodes(tmp_path / 'run' / 'episodes'))
    assert first.record.termination_reason == 'inactive'
    assert second.record.termination_reason == 'operator_stop'
    states = [m for _, m in second.messages('safety/state')]
    assert states and all(s.force_limit_n == pytest.approx(12.5) for s in states)
