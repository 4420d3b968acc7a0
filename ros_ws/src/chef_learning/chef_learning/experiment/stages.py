# SPDX-License-Identifier: Apache-2.0
"""What each stage does. All can be stopped at any moment and go on where they were by the same call."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from chef_learning import policy_files
from chef_learning.config import LearnerConfig, ReplayConfig
from chef_learning.experiment import trials
from chef_learning.experiment.config import Stage
from chef_learning.experiment.executed import PLAN, Executed, collected, ranking, records
from chef_learning.experiment.executors import Executor, Local
from chef_learning.experiment.folder import RESULT, SPEC, Experiment, ExperimentError, read_json
from chef_learning.experiment.proposals import keep, proposed
from chef_learning.experiment.training import Candidate, check_any, given, train, trained
from chef_task.rewards import MAIN_TASK
from chef_task.whole_file import write_json

_TELL_S = 10.0      # between two times that a stage's cost is written


@dataclass(frozen=True)
class Work:
    """What a stage works with. cell: file with the cell's configuration. launch: the command that starts a cell's graph. ray:
    address of the Ray cluster that candidates train on, '' for this machine.
    """

    experiment: Experiment
    cell: Path
    say: Callable[[str], None]
    stop: Callable[[], bool]
    launch: tuple[str, ...] = ()
    ray: str = ''


def run(work: Work, stage: Stage) -> bool:
    """Runs a stage to its end; whether it got there, or was stopped.

    Raises:
      ExperimentError: it cannot.
      OSError: the disk refuses.
    """
    experiment = work.experiment
    if experiment.finished(stage):
        return True
    for earlier in experiment.stages[:stage.number - 1]:
        if not experiment.finished(earlier):
            raise ExperimentError(f'{stage.name}: {earlier.name} is not finished', usage=True)
    experiment.begin(stage)
    at, done = time.monotonic(), False

    def stop() -> bool:
        """Asked many times a second: what the stage has cost is told now and then, for it may be killed."""
        nonlocal at
        if (now := time.monotonic()) - at > _TELL_S:
            experiment.spend(stage, now - at, False)
            at = now
        return work.stop()
    try:
        done = _RUN[stage.kind](dataclasses.replace(work, stop=stop), stage)
    finally:
        experiment.spend(stage, time.monotonic() - at, done)
    return done


def _collect(work: Work, stage: Stage) -> bool:
    from chef_learning.fleet_learner import Beside
    from chef_learning.fleet_worker import LEARNER
    settings = stage.settings
    for triplet in work.experiment.config.head.triplets:
        folder = work.experiment.place(stage, triplet)
        if settings.cells != 'simulated':
            if not _collect_by_graph(work, stage, triplet, folder):
                return False
            continue
        job = _job(work, stage, triplet, folder, settings.policy, settings.steps)
        left = _left(job, settings.episodes)
        beside = None
        if settings.policy == LEARNER and left:
            beside = Beside(stage.learner or work.experiment.config.learner, folder, work.experiment.config.head.seed,
                            settings.updates_per_step, settings.workers * settings.steps, settings.publish_s)
        if not _act(work, stage, triplet, job, left, settings.workers, beside):
            return False
    return True


def _collect_by_graph(work: Work, stage: Stage, triplet: int, folder: Path) -> bool:
    from chef_learning.experiment import external, graph_cells
    from chef_learning.fleet_learner import Beside
    from chef_learning.fleet_worker import LEARNER
    settings, head = stage.settings, work.experiment.config.head
    beside = None
    if settings.policy == LEARNER:
        beside = Beside(stage.learner or work.experiment.config.learner, folder, head.seed, settings.updates_per_step,
                        settings.workers * settings.steps, settings.publish_s)

    def say(line: str) -> None:
        work.say(f'{stage.name}: triplet {triplet}: {line}')
    if settings.cells == 'external':
        return external.collect(folder, stage, _storage(stage, triplet), triplet, beside, say, work.stop)
    policy = 'latest' if settings.policy == LEARNER else settings.policy
    arguments = {**_graph_arguments(work, stage, triplet), 'policy': policy}
    share, more = divmod(settings.episodes, settings.workers)
    graphs = [graph_cells.Graph(work.launch, folder, f'cell_{k + 1}_{stage.name}', share + (k < more),
                                _seed(head.seed, stage.number) * 1024 + k, arguments)
              for k in range(min(settings.workers, settings.episodes))]
    return graph_cells.run_graphs(folder, graphs, beside, say, work.stop)


def _storage(stage: Stage, triplet: int) -> str:
    return f'{stage.settings.storage.rstrip("/")}/t{triplet}'


def _execute_by_graph(work: Work, stage: Stage, triplet: int, folder: Path, order: list[tuple[str, int]],
                      policies: Mapping[str, Path]) -> bool:
    """order: candidate and seed of the scene of each trial."""
    from chef_learning.experiment import external, graph_cells
    settings, cells = stage.settings, min(stage.settings.workers, len(order))

    def say(line: str) -> None:
        work.say(f'{stage.name}: triplet {triplet}: {line}')
    if settings.cells == 'external':
        return external.execute(folder, stage, _storage(stage, triplet), triplet, order, policies, say, work.stop)
    numbered = [(number, str(policies[name].resolve()), seed) for number, (name, seed) in enumerate(order)]
    arguments = {**_graph_arguments(work, stage, triplet), 'policy': numbered[0][1], 'evaluate': settings.task}
    graphs = [graph_cells.TrialGraph(work.launch, folder, f'cell_{k + 1}_{stage.name}', numbered[k::cells], arguments)
              for k in range(cells)]
    return graph_cells.run_graphs(folder, graphs, None, say, work.stop)


def _graph_arguments(work: Work, stage: Stage, triplet: int) -> dict[str, object]:
    settings, head = stage.settings, work.experiment.config.head
    if not work.launch:
        raise ExperimentError(f'{stage.name}: cells: ros needs the robot\'s side, which ./chef stage and run bring',
                              usage=True)
    return {'cell': work.cell.resolve(), 'triplet': triplet, 'observation': head.observation, 'physics': head.physics,
            'speed': settings.speed, 'steps': settings.steps, 'learner': 'false', 'patience': min(100, 2 * settings.workers)}


def _explore(work: Work, stage: Stage) -> bool:
    experiment, head = work.experiment, work.experiment.config.head
    of = {name: Candidate(config) for name, config in stage.candidates.items()}
    waiting = [given(experiment, stage, dict.fromkeys(head.triplets, of), work.cell)]
    if stage.search:
        waiting += [proposed(experiment, stage, triplet, work.cell, work.say) for triplet in head.triplets]
    done = train(stage, stage.wanted * len(head.triplets), _executor(work, stage), itertools.chain(*waiting), work.say, work.stop)
    if stage.search:
        for triplet in head.triplets:
            keep(experiment, stage, triplet)
    if done:
        check_any(experiment, stage)
    return done


def _executor(work: Work, stage: Stage) -> Executor:
    if not work.ray:
        return Local(stage.settings.cpus)
    from chef_learning.experiment.ray_executor import OnRay
    return OnRay(work.ray, stage.settings.cpus, stage.settings.gpus, work.say)


def _execute(work: Work, stage: Stage) -> bool:
    from chef_learning.fleet_worker import Order, scene_seed
    experiment, settings = work.experiment, stage.settings
    for triplet in experiment.config.head.triplets:
        folder = experiment.place(stage, triplet)
        policies = {name: str(path) for name, path in contestants(experiment, stage, triplet).items()}
        order = trials.plan(list(policies), settings.episodes, experiment.config.head.seed)
        write_json(folder / PLAN, {'trials': order, 'candidates': policies})
        job = dataclasses.replace(_job(work, stage, triplet, folder, policies[order[0][0]], settings.steps),
                                  evaluate=settings.task == MAIN_TASK,
                                  task='' if settings.task == MAIN_TASK else settings.task)
        if settings.cells != 'simulated':
            wanted = [(name, scene_seed(job.seed, scene)) for name, scene in order]
            if not _execute_by_graph(work, stage, triplet, folder, wanted, {n: Path(p) for n, p in policies.items()}):
                return False
        elif not _act(work, stage, triplet, job, _left(job, len(order)), settings.workers, None,
                      lambda number: Order(number, None, policies[order[number][0]], order[number][1])):
            return False
        for line in Executed(experiment, stage, triplet).summary:
            work.say(f'{stage.name}: triplet {triplet}: {line}')
    return True


def _finetune(work: Work, stage: Stage) -> bool:
    experiment, found = work.experiment, {}
    executed = experiment.before(stage, 'execute')[-1]
    for triplet in experiment.config.head.triplets:
        start = best_of(experiment, executed, triplet)
        config = half_and_half(LearnerConfig.from_dict(read_json(start / SPEC)['learner']))
        found[triplet] = {'fine-tuned': Candidate(config, start)}
        for factor in stage.settings.scratch:
            name = 'from-scratch' if factor == 1 else f'from-scratch-x{factor:g}'
            found[triplet][name] = Candidate(config, updates=round(factor * stage.settings.updates))
    done = train(stage, sum(map(len, found.values())), _executor(work, stage), given(experiment, stage, found), work.say,
                 work.stop)
    if done:
        check_any(experiment, stage)
    return done


_RUN = {'collect': _collect, 'explore': _explore, 'execute': _execute, 'finetune': _finetune}


def half_and_half(config: LearnerConfig) -> LearnerConfig:
    """With half of every batch from COLLECT and half from EXECUTE (paper, section VII.E) and the trials of EXPLORE."""
    replay: ReplayConfig = dataclasses.replace(config.replay, sets=('episode:*collect*', 'episode:*_ex*'), shares=(0.5, 0.5))
    return dataclasses.replace(config, replay=replay)


def candidates_of(experiment: Experiment, stage: Stage, triplet: int) -> dict[str, Path]:
    """Name to folder of what an execute stage tries: what the newest training before it made; {} before any training."""
    trainings = experiment.before(stage, 'explore', 'finetune')
    if not trainings:
        return {}
    found = trained(experiment, trainings[-1], triplet)
    if not found:
        raise ExperimentError(f'{stage.name}: no candidate of {trainings[-1].name} can act on triplet {triplet}')
    return found


def best_of(experiment: Experiment, stage: Stage, triplet: int) -> Path:
    """Folder of the best candidate of an execute stage, those left out that were there to compare with only."""
    candidates = candidates_of(experiment, stage, triplet)
    found = {name: of for name, of in records(experiment, stage, triplet).items() if name in candidates}
    return candidates[ranking(stage, found)[0].name]


def contestants(experiment: Experiment, stage: Stage, triplet: int) -> dict[str, Path]:
    """Name to policy of all that act in an execute stage: its candidates and, if asked, what to compare them with."""
    def policy(candidate: Path) -> Path:
        return candidate / read_json(candidate / RESULT)['policy']
    out = {name: policy(place) for name, place in candidates_of(experiment, stage, triplet).items()}
    if stage.settings.references:
        for collect in experiment.before(stage, 'collect'):
            if made := policy_files.versions(experiment.place(collect, triplet) / 'policies'):
                out[collected(experiment, collect)] = made[-1]
        for earlier in experiment.before(stage, 'execute')[-1:]:
            if candidates_of(experiment, earlier, triplet):
                best = best_of(experiment, earlier, triplet)
                if best.name not in out:        # the same training's, where nothing was learned since
                    out[f'{best.parents[1].name}/{best.name}'] = policy(best)
    if not out:
        raise ExperimentError(f'{stage.name}: there is no policy to try on triplet {triplet}')
    return out


def _job(work: Work, stage: Stage, triplet: int, folder: Path, policy: str, steps: int):
    from chef_learning.fleet_worker import Job
    head = work.experiment.config.head
    return Job(folder, work.cell, policy, triplet, head.physics, head.observation, _seed(head.seed, stage.number), steps,
               'set', name=stage.name)


def _seed(seed: int, stage: int) -> int:
    """Of a stage's scenes: no two stages have the same."""
    return seed * 1000 + stage


def _left(job, count: int) -> int:
    """How many of the first `count` episodes are not there yet."""
    from chef_learning.fleet import missing
    return sum(1 for _ in itertools.takewhile(lambda number: number < count, missing(job.folder / 'episodes', job.name)))


def _act(work: Work, stage: Stage, triplet: int, job, left: int, workers: int, beside, plan=None) -> bool:
    """Runs the episodes that are missing; whether all are there."""
    from chef_learning.fleet import Fleet, FleetError
    if not left:
        return True
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        Fleet(job, left, workers, beside, lambda line: work.say(f'{stage.name}: triplet {triplet}: {line}'), work.stop,
              plan).run()
    except FleetError as e:
        raise ExperimentError(f'{stage.name}: {e}', e.usage) from None
    return not work.stop()
