# SPDX-License-Identifier: Apache-2.0
"""What the world sends. Apart from `world`, so that who only talks with one need not load physics."""

STREAMS = ('joints', 'tcp', 'gripper', 'wrench', 'objects', 'render')
