# SPDX-License-Identifier: Apache-2.0
"""Where the cameras are and how they see, the workspace box, and the file that keeps them. No ROS; docs/tracking.md."""
