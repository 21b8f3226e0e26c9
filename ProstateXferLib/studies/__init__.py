# SPDX-License-Identifier: Apache-2.0
"""Whole studies: many trainings, scored on the same cases, with tables in the layout of the papers."""
