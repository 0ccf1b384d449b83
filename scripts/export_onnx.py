"""Exports a YOSO checkpoint to ONNX and checks the file against torch. The same as `yoso export`.

python scripts/export_onnx.py --model_name_or_path checkpoints/yoso-lite0-facade --output onnx/model.onnx
python onnx/predict.py onnx/model.onnx photo.jpg --output segments.png   # needs no torch

With --calibration_photos the folder also gets model_int8.onnx.
"""

from transformers_yoso.export.command import main

if __name__ == "__main__":
    main()
