# SPDX-License-Identifier: Apache-2.0
"""Progress for tests: it keeps what the work tells, or stops the work at a chosen moment."""
