# SPDX-License-Identifier: Apache-2.0
"""The supervisor against fake nodes that end, fail, refuse and leave children."""

import dataclasses
import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import alive, wait_until

from chef_bringup.graph import ArgumentError
from chef_bringup.logs import Terminal
from chef_bringup.supervisor import Deadlines, Supervisor

QUICK = Deadlines(grace_s=0.2, interrupt_s=4.0, terminate_s=0.3, kill_s=2.0)
IMPATIENT = Deadlines(grace_s=0.2, interrupt_s=0.3, terminate_s=0.3, kill_s=2.0)


def run(fakes, specs, deadlines=QUICK, meanwhile=None):
    """Run to the end; returns the status, what was shown and the seconds it took."""
    shown = io.BytesIO()
    terminal = Terminal(shown, colour=False)
    supervisor = Supervisor(specs, fakes.logs, fakes.env, deadlines, terminal)
    if meanwhile is not None:
        threading.Thread(target=meanwhile, daemon=True).start()
    start = time.monotonic()
    code = supervisor.run()
    took = time.monotonic() - start
    terminal.close()
    return code, shown.getvalue().decode(), took


def test_ends_well_when_the_leading_node_is_done(fakes):
    fakes.env["WAIT_FOR"] = "arm"
    code, shown, _ = run(fakes, [fakes.spec("arm", "good"), fakes.spec("collect", "done", ends_graph=True)])
    assert code == 0, shown
    assert "[arm] sealed" in shown
    assert "sealed" in (fakes.logs / "arm.log").read_text()


def test_those_that_stop_first_are_waited_for_before_the_others_are_told(fakes):
    fakes.env["WAIT_FOR"] = "arm manager"
    specs = [fakes.spec("arm", "good"), fakes.spec("manager", "manager", stops_first=True),
             fakes.spec("collect", "done", ends_graph=True)]  # fmt: skip
    code, shown, _ = run(fakes, specs)
    assert code == 0 and "[manager] arm runs" in shown, shown


def test_those_that_stop_first_are_not_waited_for_forever(fakes):
    fakes.env["WAIT_FOR"] = "arm manager"
    specs = [fakes.spec("arm", "good"), fakes.spec("manager", "stubborn", stops_first=True),
             fakes.spec("collect", "done", ends_graph=True)]  # fmt: skip
    _, shown, took = run(fakes, specs, dataclasses.replace(IMPATIENT, rest_s=0.3))
    assert "[arm] sealed" in shown and took < 5, shown


def test_a_required_node_that_dies_fails_the_graph_and_is_named(fakes):
    code, shown, took = run(fakes, [fakes.spec("arm", "good"), fakes.spec("wrench", "dies")])
    assert code == 1
    assert "FAILED: required node 'wrench' exited with code 3" in shown
    assert "[wrench] no such device" in shown
    assert "[arm] sealed" in shown
    assert took < 10


def test_the_others_get_a_grace_time(fakes):
    fakes.env["DONE_S"] = "0.8"
    specs = [fakes.spec("arm", "dies"), fakes.spec("recorder", "done", required=False)]
    code, shown, _ = run(fakes, specs, Deadlines(grace_s=8.0))
    assert code == 1
    assert "ended by" not in shown and "while stopping" not in shown


def test_the_grace_ends_with_the_node_that_leads(fakes):
    """That one is told of the loss, brings its work to an end, and with it there is nothing left to wait for."""
    collect = fakes.spec("collect", "told", ends_graph=True, told_of_loss=True)
    fakes.env["WAIT_FOR"] = "collect"
    specs = [fakes.spec("arm", "good"), collect, fakes.spec("wrench", "dies")]
    code, shown, took = run(fakes, specs, Deadlines(grace_s=30.0))
    assert code == 1 and "[arm] sealed" in shown and took < 15, shown


def test_a_leader_that_dies_of_the_news_does_not_end_the_grace(fakes):
    """It was told before it could listen; the others may be as young, and have not begun to stop."""
    fakes.env["DONE_S"] = "0.8"
    collect = fakes.spec("collect", "good", ends_graph=True, told_of_loss=True)  # which that signal ends
    specs = [fakes.spec("arm", "dies"), collect, fakes.spec("recorder", "done", required=False)]
    code, shown, _ = run(fakes, specs, Deadlines(grace_s=8.0))
    assert code == 1 and "KeyboardInterrupt" not in shown, shown


def test_a_required_node_that_ends_with_success_is_a_failure_too(fakes):
    code, shown, _ = run(fakes, [fakes.spec("arm", "good"), fakes.spec("wrench", "done")])
    assert code == 1
    assert "required node 'wrench' exited with code 0" in shown


def test_the_leading_node_that_fails_fails_the_graph(fakes):
    code, shown, _ = run(fakes, [fakes.spec("arm", "good"), fakes.spec("collect", "dies", ends_graph=True)])
    assert code == 1
    assert "'collect' exited with code 3" in shown


def test_a_required_node_that_crashes_on_the_way_out_is_a_failure(fakes):
    fakes.env["WAIT_FOR"] = "recorder"
    code, shown, _ = run(fakes, [fakes.spec("recorder", "bad_end"), fakes.spec("collect", "done", ends_graph=True)])
    assert code == 1
    assert "required node 'recorder' exited with code 9 while stopping" in shown


def test_a_stubborn_node_is_killed_in_time(fakes):
    specs = [fakes.spec("arm", "stubborn"), fakes.spec("collect", "done", ends_graph=True)]
    fakes.env["WAIT_FOR"] = "arm"
    code, shown, took = run(fakes, specs, IMPATIENT)
    assert code == 1
    assert "SIGKILL: arm" in shown
    assert took < 8


def test_grandchildren_in_sessions_of_their_own_are_ended(fakes):
    specs = [fakes.spec("arm", "parent"), fakes.spec("collect", "done", ends_graph=True)]
    fakes.env["WAIT_FOR"] = "arm"
    _, shown, _ = run(fakes, specs)
    assert not alive(fakes.pid("grandchild"))
    assert "left behind" in shown


def test_ctrl_c_stops_in_order(fakes):
    def interrupt():
        fakes.pid("arm"), fakes.pid("collect")
        os.kill(os.getpid(), signal.SIGINT)

    specs = [fakes.spec("arm", "good"), fakes.spec("collect", "good", ends_graph=True)]
    code, shown, took = run(fakes, specs, Deadlines(), interrupt)
    assert code == 130
    assert shown.index("[collect] sealed") < shown.index("[arm] sealed")
    assert "while stopping" not in shown
    assert took < 5


def test_a_second_ctrl_c_hurries(fakes):
    def interrupt():
        fakes.pid("arm")
        for _ in range(3):  # to stop, to terminate, to kill
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    code, _, took = run(fakes, [fakes.spec("arm", "stubborn")], Deadlines(30, 30, 30), interrupt)
    assert code == 1
    assert took < 10


def test_sigterm_stops_in_order(fakes):
    def terminate():
        fakes.pid("arm")
        os.kill(os.getpid(), signal.SIGTERM)

    code, shown, _ = run(fakes, [fakes.spec("arm", "good")], QUICK, terminate)
    assert code == 143
    assert "[arm] sealed" in shown


def test_an_optional_node_is_restarted_with_a_limit(fakes):
    fakes.env["DONE_S"] = "2"
    learner = fakes.spec("learner", "once", required=False, respawn=True, respawn_limit=2, respawn_delay_s=0.05)
    code, shown, _ = run(fakes, [learner, fakes.spec("collect", "done", ends_graph=True)])
    assert code == 0, shown
    assert shown.count("[learner] once more") == 3
    assert "the graph goes on without it" in shown


def test_a_node_gets_its_parameters_environment_and_niceness(fakes):
    values = {"seed": 7, "speed": 1.0, "policy": "1", "lockstep": False, "path": "/a b/é"}
    spec = fakes.spec("learner", "chatty", parameters=values, env={"OMP_NUM_THREADS": "1"}, nice=3, ends_graph=True)
    code, shown, _ = run(fakes, [spec])
    assert code == 0
    assert f"[learner] 1 {os.nice(0) + 3}" in shown
    yaml = pytest.importorskip("yaml")
    written = yaml.safe_load((fakes.logs / "parameters.yaml").read_text())
    assert written == {"/cell_1/learner": {"ros__parameters": values}}


def test_a_missing_executable_is_one_clear_line(fakes):
    with pytest.raises(ArgumentError, match="has no executable 'sim_world'"):
        run(fakes, [fakes.spec("world", "sim_world")])


@pytest.mark.parametrize("others", [["good"], ["stubborn", "parent"]])
def test_nothing_is_left_when_the_supervisor_itself_is_killed(fakes, others):
    specs = ", ".join(f"NodeSpec({name!r}, 'fakes', {name!r}, 'c')" for name in others)
    code = f"""
import os, pathlib
from chef_bringup.graph import NodeSpec
from chef_bringup.logs import Terminal
from chef_bringup.supervisor import Deadlines, Supervisor
logs = pathlib.Path({str(fakes.logs)!r})
Supervisor([{specs}], logs, dict(os.environ), Deadlines(0.2, 0.3, 0.3, 1.0), Terminal()).run()
"""
    path = os.pathsep.join([os.path.dirname(os.path.dirname(__file__)), fakes.env.get("PYTHONPATH", "")])
    env = {**fakes.env, "PYTHONPATH": path}
    supervisor = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.DEVNULL)
    pids = [fakes.pid(name) for name in others] + ([fakes.pid("grandchild")] if "parent" in others else [])
    supervisor.kill()
    supervisor.wait(10)
    for pid in pids:
        assert wait_until(lambda pid=pid: not alive(pid)), "left behind"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_ros2_launch_is_stopped(fakes, number):
    """With a fake ros2 that, as the real one, leaves its nodes behind on SIGTERM."""
    folder = fakes.prefix / "bin"
    folder.mkdir()
    ros2 = folder / "ros2"
    ros2.write_text(
        f"""#!{sys.executable}
import pathlib, signal, subprocess, sys
node = subprocess.Popen(["{fakes.prefix}/lib/fakes/good", "__node:=arm"])
signal.signal(signal.SIGINT, lambda *_: node.send_signal(signal.SIGINT))
node.wait()
pathlib.Path("{fakes.pids}/words.partial").write_text(" ".join(sys.argv[1:]))
sys.exit(7)
"""
    )
    ros2.chmod(0o755)
    env = {**fakes.env, "PATH": f"{folder}{os.pathsep}{fakes.env['PATH']}"}
    code = f"""
import os, pathlib, sys
from chef_bringup.launching import _ros2_launch
from chef_bringup.supervisor import Deadlines
sys.exit(_ros2_launch(pathlib.Path("a.launch.py"), ["seed:=1"], dict(os.environ), Deadlines(0.2, 0.5, 0.3, 1.0)))
"""
    env["PYTHONPATH"] = os.pathsep.join([os.path.dirname(os.path.dirname(__file__)), env.get("PYTHONPATH", "")])
    chef = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.DEVNULL)
    pid = fakes.pid("arm")
    chef.send_signal(number)
    assert chef.wait(20) == (-9 if number == signal.SIGKILL else 7)
    assert wait_until(lambda: not alive(pid)), "left behind"
    if number != signal.SIGKILL:
        assert (fakes.pids / "words.partial").read_text() == "launch a.launch.py seed:=1"
