# SPDX-License-Identifier: Apache-2.0
"""A cohort of predictions against references: cases are matched, scored in parallel, summed up, and written down."""
