# SPDX-License-Identifier: Apache-2.0
"""What training minimises, one family a file."""
