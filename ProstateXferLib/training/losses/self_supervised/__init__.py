# SPDX-License-Identifier: Apache-2.0
"""Losses of DINOv3's self-supervised training, one a file, and the balancing of the teacher's targets."""
