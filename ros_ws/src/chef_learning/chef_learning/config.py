# SPDX-License-Identifier: Apache-2.0
"""What can be set about learning, from one YAML file (config/learner/*.yaml)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from chef_learning.replay_images import KINDS
from chef_learning.replay_sets import HELP, check_sets
from chef_task import yaml_file
from chef_task.settings import build, option, to_dict

OBSERVATIONS = ('pixels', 'state')
ALGORITHMS = ('mpo', 'crr_exp', 'crr_binary', 'bc')


@dataclass(frozen=True)
class NetworkConfig:
    """Actor and critic; each has a torso of its own and one MLP head per task."""

    channels: tuple[int, ...] = option((16, 32, 32), 'channels of the ResNet groups, each halves the image',
                                       low=1, high=4096)
    blocks: int = option(2, 'residual blocks in a group', low=0, high=16)
    embedding: int = option(32, 'size of the image embedding', low=1, high=4096)
    cameras: str = option('stacked', 'stacked: cameras as channels of one image; shared: one pass per camera',
                          choices=('stacked', 'shared'))
    shift: int = option(0, 'pixels by which images are shifted at random while learning, each way; 0: none; 4 is '
                        'usual', low=0, high=64)
    encoder: int = option(256, 'size of the layer-norm + tanh layer on the normalised features',
                          low=1, high=8192)
    torso: tuple[int, ...] = option((256, 256), 'sizes of the shared ELU layers', low=1, high=8192)
    head: tuple[int, ...] = option((256,), 'sizes of the ELU layers of every task\'s head, actor and critic',
                                   low=1, high=8192)
    atoms: int = option(51, 'atoms of the critic\'s categorical distribution', low=2, high=1001)
    gripper: str = option('gaussian', 'gaussian: a velocity like the others; categorical: opens or closes',
                          choices=('gaussian', 'categorical'))
    share_actor_torso: bool = option(True, 'one torso of the actor for all tasks; false: one per task')
    share_critic_torso: bool = option(True, 'the same of the critic')
    min_std: float = option(1e-4, 'smallest standard deviation, in actions of [-1, 1]', above=0, high=1)
    initial_std: float = option(0.7, 'standard deviation at the start, in actions of [-1, 1]', above=0,
                                high=10)


@dataclass(frozen=True)
class MPOConfig:
    """Policy improvement (Abdolmaleki et al. 2018, with the decoupled constraints of acme)."""

    action_samples: int = option(20, 'actions sampled per state and task', low=2, high=1000)
    epsilon: float = option(0.1, 'KL in nats between the weighted samples and the policy, E-step', above=0)
    epsilon_penalty: float = option(1e-3, 'the same for the out-of-bound penalty', above=0)
    epsilon_mean: float = option(5e-4, 'KL in nats per action dimension that the mean may move, M-step',
                                 above=0)
    epsilon_std: float = option(1e-6, 'KL in nats per action dimension that the std may move, M-step',
                                above=0)
    epsilon_gripper: float = option(1e-3, 'KL in nats that a categorical gripper may move, M-step', above=0)
    gripper_step: str = option('sampled', 'E-step of a categorical gripper: sampled: with the other dimensions, by the '
                               'actions that were sampled; both: by the values of opening and of closing, with a '
                               'temperature of its own', choices=('sampled', 'both'))
    epsilon_gripper_step: float = option(0.02, 'KL in nats between the improved gripper and the policy, E-step, where '
                                         'gripper_step is both', above=0)
    initial_log_temperature: float = option(10.0, 'dual of the E-step before softplus')
    initial_log_alpha_mean: float = option(10.0, 'dual of the mean\'s KL before softplus')
    initial_log_alpha_std: float = option(1000.0, 'dual of the std\'s KL before softplus')
    initial_log_alpha_gripper: float = option(10.0, 'dual of the gripper\'s KL before softplus')


@dataclass(frozen=True)
class RegressionConfig:
    """Critic regularised regression (Wang et al. 2020), where `algorithm` is one of crr_*."""

    action_samples: int = option(4, 'actions sampled per state and task for the advantage', low=1, high=1000)
    beta: float = option(1.0, 'crr_exp: temperature of the advantage, in units of return', above=0)
    limit: float = option(20.0, 'crr_exp: largest weight of an action', above=0)


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam."""

    actor_rate: float = option(1e-4, 'learning rate of the actor', above=0, high=1)
    critic_rate: float = option(1e-4, 'learning rate of the critic', above=0, high=1)
    dual_rate: float = option(1e-2, 'learning rate of the dual variables', above=0, high=10)
    clip_norm: float = option(40.0, 'largest gradient norm, each of actor and critic', above=0)


@dataclass(frozen=True)
class ScheduleConfig:
    """How episodes are collected: which task acts when (chef_learning.schedule), and how it explores."""

    kind: str = option('sac_q', 'sac_q: tasks whose choice has paid for the main task; sac_u: at random',
                       choices=('sac_q', 'sac_u'))
    period: int = option(200, 'steps of 50 ms between two choices', low=1)
    discount: float = option(1.0, 'of the main task\'s rewards in a choice\'s return, per step', above=0, high=1)
    rate: float = option(0.5, 'share of the way that the table moves towards a new return', above=0, high=1)
    temperature: float = option(1.0, 'of the choice, in units of the largest return in the table', above=0)
    temperature_decay: float = option(0.995, 'by which it is multiplied every episode', above=0, high=1)
    temperature_min: float = option(0.1, 'the least it becomes', above=0)
    noise: float = option(0.0, 'how the samples of a policy hang together while it collects: with a power of f^-noise '
                          'over the frequency f; 0 white, 1 pink, 2 brown', low=0, high=2)
    gripper_floor: float = option(0.0, 'the least probability of opening and of closing a categorical gripper while '
                                  'a policy collects, whatever it has learned', low=0, high=0.5)
    gripper_hold: int = option(1, 'steps for which a categorical gripper keeps opening or closing once that was chosen; '
                               'its fingers take a dozen to close, and are worth nothing half-way', low=1)


@dataclass(frozen=True)
class ReplayConfig:
    """Replay: see chef_learning.replay."""

    min_transitions: int = option(100, 'transitions needed before the first update', low=1)
    labels: str = option('', 'version of the labels to learn from (see ./chef bags relabel), or the path of its '
                         'folder, with a slash; empty: the rewards as they were recorded')
    sets: tuple[str, ...] = option(('all',), 'episodes that batches are drawn from: ' + HELP)
    shares: tuple[float, ...] = option((), 'part of a batch that is from each set, summing to 1; none: all transitions of '
                                       'the sets alike', above=0, high=1)
    images: str = option('compressed', 'how images are kept: compressed without loss, or raw, in several times the space',
                         choices=KINDS)
    threads: int = option(0, 'threads that read images; 0: one less than there are processors, at most 4', low=0,
                          high=256)
    readers: int = option(0, 'processes that draw batches ahead, so that drawing and learning share no interpreter, as a '
                          'GPU needs; 0: a thread does (`prefetch`)', low=0, high=64)

    def __post_init__(self):
        try:
            check_sets(self.sets, self.shares)
        except ValueError as e:
            raise ValueError(f'replay.{e}') from None


@dataclass(frozen=True)
class LearnerConfig:
    """All about one learner. Quantities without a unit are counts or fractions."""

    algorithm: str = option('mpo', 'how the policy improves: mpo; crr_exp or crr_binary: regression on actions '
                            'of the data that the critic prefers; bc: on all of them, without a critic',
                            choices=ALGORITHMS)
    tasks: str = option('all', 'what is learned: all tasks that have rewards; main: the main one alone; composite: '
                        'one whose reward grows with the stage that was reached; or names of some, with commas')
    observation: str = option('state', 'what the policy sees', choices=OBSERVATIONS)
    haptics: bool = option(True, 'give it wrist and joint forces and torques')
    batch_size: int = option(256, 'transitions in a batch', low=1, high=65536)
    discount: float = option(0.99, 'per control step of 50 ms', low=0, below=1)
    n_step: int = option(5, 'steps in a return before it bootstraps', low=1, high=1000)
    target_period: int = option(100, 'updates between two copies to the target networks', low=1)
    metrics_period: int = option(10, 'updates between two lines of metrics', low=1)
    prefetch: int = option(1, 'batches that a thread draws ahead while the learner updates; 0: none, no thread',
                           low=0, high=64)
    precision: str = option('float32', 'of products; bfloat16 pays on GPUs only', choices=('float32', 'bfloat16'))
    compile: str = option('auto', 'networks and losses by torch.compile: always, never, or auto: on GPUs only; the first update '
                          'then takes a minute or more', choices=('auto', 'always', 'never'))
    capture: bool = option(True, 'record the update as a CUDA graph; of no effect on a CPU, nor with several processes')
    network: NetworkConfig = field(default_factory=NetworkConfig)
    mpo: MPOConfig = field(default_factory=MPOConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)

    @classmethod
    def from_dict(cls, values) -> LearnerConfig:
        """From a mapping; ValueError naming the key that is unknown or has a bad value."""
        return build(cls, values)

    @classmethod
    def load(cls, path: str | Path) -> LearnerConfig:
        """Reads and checks a YAML file; ValueError, one line, naming the file and the key."""
        values = yaml_file.load(path)
        try:
            return cls.from_dict(values)
        except ValueError as e:
            raise ValueError(f'{path}: {e}') from None

    def to_dict(self) -> dict:
        """Plain values; `from_dict` reads them back."""
        return to_dict(self)

    @property
    def max_return(self) -> float:
        """Upper end of the critic's support: rewards are in [0, 1], so 1 / (1 - discount)."""
        return 1.0 / (1.0 - self.discount)
