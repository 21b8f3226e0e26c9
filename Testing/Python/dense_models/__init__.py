# SPDX-License-Identifier: Apache-2.0
"""Small dense models for the tests of pipelines: with random weights in files, or a function of every voxel."""
