# SPDX-License-Identifier: Apache-2.0
"""Set-up, the node graph, the supervisor and the command line of CHEF."""
