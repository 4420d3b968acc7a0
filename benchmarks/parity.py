# SPDX-License-Identifier: Apache-2.0
"""What the public environment does, written down for the tests that compare ours with it.

    ./chef bench parity [--output ros_ws/src/chef_sim/test/public_reference.json]

Runs DeepMind's packages in an environment of their own (1 GB, made on first use), for ten minutes. The tests
(test_parity.py) read the file, and need none of that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).resolve().with_name('_public_reference.py')
FILE = SCRIPT.parents[1] / 'ros_ws' / 'src' / 'chef_sim' / 'test' / 'public_reference.json'


def main() -> int:
    from chef_bringup.setup import SetupError, benchmarks
    parser = argparse.ArgumentParser(prog='./chef bench parity', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--output', type=Path, default=FILE, help='default: %(default)s')
    options = parser.parse_args()
    try:
        python = benchmarks.ensure_here('public_sim', '1 GB', 'the public packages need a checkout to be installed in')
    except SetupError as e:
        print(f'parity: {e}', file=sys.stderr)
        return 2
    env = {**benchmarks.variables(), 'MUJOCO_GL': os.environ.get('MUJOCO_GL', 'egl'), 'PYTHONWARNINGS': 'ignore'}
    with tempfile.TemporaryDirectory(dir=options.output.parent) as folder:
        made = Path(folder) / options.output.name
        if subprocess.run([str(python), str(SCRIPT), str(made)], env=env).returncode or not made.exists():
            print('parity: the public environment failed, see above', file=sys.stderr)
            return 1
        os.replace(made, options.output)
    print(f'{options.output}: {options.output.stat().st_size / 1e3:.0f} kB')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
