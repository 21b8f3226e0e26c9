# SPDX-License-Identifier: Apache-2.0
"""Whole trainings through the command line, and what they leave behind."""
