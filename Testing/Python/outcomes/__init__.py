# SPDX-License-Identifier: Apache-2.0
"""What a call leaves behind: files, the rows of a table, the sentence of a refusal."""
