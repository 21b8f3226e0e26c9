# SPDX-License-Identifier: Apache-2.0
"""`python -m ProstateXferLib` is the command `prostatexfer`."""

from ProstateXferLib.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
