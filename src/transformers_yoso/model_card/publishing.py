"""Uploads a complete checkpoint folder to the Hub: weights, processor, remote code and card."""

import json
import os
from pathlib import Path

from huggingface_hub import HfApi

CARD_FILES = ("README.md", "*.jpg", "*.png")
MODEL_FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json", "*.py")


def push_folder_to_hub(
    folder: str | os.PathLike,
    hub_model_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "Upload YOSO model",
) -> str:
    """
    Uploads weights, configuration, processor, remote code and card of a folder, and nothing else that lies in it.

    The folder may be a run's output folder: its checkpoints, logs and optimiser states stay where they are.

    Args:
        folder: as `save_pretrained` of model and processor and `write_model_card` leave it.
        hub_model_id: `owner/name`, or `name` for the account of the token; made if it is new.
        private: for a new repository; by default as the account has it.
        token: by default the stored one.
        commit_message: of the upload.

    Returns:
        Address of the commit.

    Raises:
        ValueError: the folder lacks a part; the message says which and how to make it.
    """
    check_complete(Path(folder))
    hub = HfApi(token=token)
    repo_id = hub.create_repo(hub_model_id, private=private, exist_ok=True).repo_id
    commit = hub.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        allow_patterns=[*MODEL_FILES, *CARD_FILES],
        ignore_patterns=["*/*"],
        commit_message=commit_message,
    )
    return str(commit)


def check_complete(folder: Path) -> None:
    """Raises `ValueError` unless the folder opens elsewhere, without the package, and tells what it is."""
    parts = {
        "weights (model.save_pretrained)": any(folder.glob("*.safetensors")),
        "configuration (model.save_pretrained)": (folder / "config.json").is_file(),
        "processor (image_processor.save_pretrained)": (folder / "preprocessor_config.json").is_file(),
        "card (write_model_card)": (folder / "README.md").is_file(),
    }
    missing = [part for part, is_there in parts.items() if not is_there]
    if missing:
        raise ValueError(f"{folder} is not complete, it lacks: {'; '.join(missing)}.")
    auto_map = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("auto_map", {})
    modules = {f"{name.split('.')[0]}.py" for name in auto_map.values()}
    lost = sorted(name for name in modules if not (folder / name).is_file())
    if not modules or lost:
        raise ValueError(
            f"{folder} lacks its remote code ({', '.join(lost) or 'no auto_map in config.json'}); save the model again "
            "with `save_pretrained`."
        )
