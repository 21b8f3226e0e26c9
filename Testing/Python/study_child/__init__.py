# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the child process of a run, which does as a test tells it; see fixtures.py."""
