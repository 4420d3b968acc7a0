# SPDX-License-Identifier: Apache-2.0
"""The sample streams of a simulated world."""

STREAMS = ('joints', 'tcp', 'gripper', 'wrench', 'objects', 'render')
