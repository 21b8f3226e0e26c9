# SPDX-License-Identifier: Apache-2.0
"""Whole studies and many of them: what the Slicer panel, the command line and the batch runner share."""
