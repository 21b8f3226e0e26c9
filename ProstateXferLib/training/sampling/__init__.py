# SPDX-License-Identifier: Apache-2.0
"""Which slice or patch training sample number i is: pure functions of (seed, number)."""
