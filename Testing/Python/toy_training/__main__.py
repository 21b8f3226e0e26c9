# SPDX-License-Identifier: Apache-2.0
"""`python -m toy_training ...` is `prostatexfer ...` with the toy task (Testing/Python must be on PYTHONPATH)."""

import sys

from ProstateXferLib.cli.main import main
from toy_training.task import register

if __name__ == "__main__":
    register()
    sys.exit(main())
