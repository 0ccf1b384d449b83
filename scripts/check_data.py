"""Checks a panoptic dataset; exit code 1 if it has errors. The same as `yoso check-data`."""

import sys

from transformers_yoso.data.checker.command import main

if __name__ == "__main__":
    sys.exit(main())
