# SPDX-License-Identifier: Apache-2.0
"""A training that takes milliseconds: a task that learns x0 * x1 - x2, and programs that train it in processes."""
