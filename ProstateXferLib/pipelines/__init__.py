# SPDX-License-Identifier: Apache-2.0
"""Checkpoints applied to images: `Segmenter` and `Synthesizer`."""
