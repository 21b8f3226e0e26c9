# SPDX-License-Identifier: Apache-2.0
"""Several sites train at the same time and their weights are averaged, round by round; images stay where they are."""
