# SPDX-License-Identifier: Apache-2.0
"""The commands of `./chef bags`, a module each.

A command's module has `HELP` (one line), `DESCRIPTION` (a paragraph), `add_arguments(parser)` and
`run(args) -> int`, the exit status; bad input is a BagError. Its name is that of the module.
"""

# in the order of the help
NAMES = ('list', 'show', 'movie', 'report', 'check', 'recover', 'relabel', 'convert', 'export')
