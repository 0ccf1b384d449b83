"""
Trains YOSO; `--recipe` gives defaults (coco, cityscapes, ade20k, mapillary, finetune), which other arguments override.

One process: `python scripts/train.py ...`; all GPUs of a machine: `accelerate launch scripts/train.py ...`; several CPU
processes: `accelerate launch --multi_gpu --num_processes 2 scripts/train.py --use_cpu ...`. The same as `yoso train`.
"""

from transformers_yoso.training.command import main

if __name__ == "__main__":
    main()
