"""Scores a YOSO checkpoint on a dataset; runs under `torchrun` as well. The same as `yoso evaluate`."""

from transformers_yoso.evaluation.command import main

if __name__ == "__main__":
    main()
