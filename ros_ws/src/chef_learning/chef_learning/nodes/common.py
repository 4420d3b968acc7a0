# SPDX-License-Identifier: Apache-2.0
"""Parameters that the nodes of this package share, and their checks."""

from __future__ import annotations

from typing import Any

from chef_control.node import ConfigError, Param

OBSERVATION = Param('observation', 'pixels', 'of the cell: pixels or state')
SEED = Param('seed', 0, 'of networks, sampled actions and the schedule of tasks')


def check(params: dict[str, Any]) -> None:
    """ConfigError naming the parameter that cannot be."""
    if params['observation'] not in ('pixels', 'state'):
        raise ConfigError(f"parameter observation must be 'pixels' or 'state', not {params['observation']!r}")
    if not params['run_dir'].startswith('/'):
        raise ConfigError(f'parameter run_dir must be an absolute path, not {params["run_dir"]!r}')
    if params['seed'] < 0:
        raise ConfigError(f'parameter seed must not be negative, not {params["seed"]}')
