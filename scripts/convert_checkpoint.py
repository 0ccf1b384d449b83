"""Converts an official YOSO checkpoint to a Transformers model folder. The same as `yoso convert`.

python scripts/convert_checkpoint.py --dataset coco --output_dir yoso-resnet50-coco
python scripts/convert_checkpoint.py --dataset coco --checkpoint yoso_res50_coco.pth --output_dir yoso-resnet50-coco
"""

from transformers_yoso.conversion.command import main

if __name__ == "__main__":
    main()
