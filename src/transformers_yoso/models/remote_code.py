"""Saved folders carry this code, so that they open by `trust_remote_code=True` where the package is not installed."""

import shutil
from pathlib import Path

AUTO_MAP = {
    "AutoConfig": "configuration_yoso.YosoConfig",
    "AutoModel": "modeling_yoso.YosoModel",
    "AutoModelForUniversalSegmentation": "modeling_yoso.YosoForUniversalSegmentation",
    "AutoModelForImageSegmentation": "modeling_yoso.YosoForUniversalSegmentation",
}

# Transformers' pair: the PIL class, then the torchvision class, which is the default where torchvision is installed.
IMAGE_PROCESSOR_AUTO_MAP = {
    "AutoImageProcessor": [
        "image_processing_pil_yoso.YosoImageProcessorPil",
        "image_processing_yoso.YosoImageProcessor",
    ]
}


def save_remote_code(folder: str | Path) -> None:
    """Copies the model's Python files, flat, into `folder`."""
    source = Path(__file__).parent
    if source.resolve() == Path(folder).resolve():
        return
    for file in source.glob("*.py"):
        if file.name != "__init__.py":
            shutil.copyfile(file, Path(folder) / file.name)
