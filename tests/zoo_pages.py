"""The model-zoo pages' commands, and a folder in which they run: tiny data in official layouts, made-up weights."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file

from official_checkpoint import write_official_checkpoint
from official_folders import COUNTS, make_official_folder
from tiny_yoso import tiny_model
from training_runs import ROOT, TINY_NETWORK
from transformers_yoso.conversion.dataset_specs import DATASET_SPECS
from transformers_yoso.data import CocoPanopticDataset
from transformers_yoso.models.image_processing_yoso import YosoImageProcessor

PAGES = ROOT / "model_zoo"
TINY_TRAINING = (
    *TINY_NETWORK,
    *("--use_cpu", "--max_train_steps", "1", "--image_size", "64", "--scale_range", "1", "1"),
    *("--validation_size", "48", "64", "--dataloader_num_workers", "0"),
)
"""In place of what a page's training command takes from the recipe; the global batch stays the recipe's."""
TINY_EVALUATION = ("--use_cpu", "--size", "48", "64")
SOURCE_FOLDERS = {"ade20k": "ADEChallengeData2016", "mapillary": "mapillary_vistas"}


def commands_of(page: str) -> list[list[str]]:
    """The commands in the page's shell blocks, as lists of arguments."""
    blocks = re.findall(r"```bash\n(.*?)```", (PAGES / f"{page}.md").read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def run_script(name: str, arguments: list[str]) -> None:
    """Runs one of the scripts in this process."""
    assert (ROOT / "scripts" / name).is_file()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        try:
            runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
        except SystemExit as end:
            assert not end.code, end.code


def make_workplace(
    folder: Path, dataset: str, photos: CocoPanopticDataset, reference: Path, counts: dict[str, int] = COUNTS
) -> None:
    """
    Puts into `folder` what a page takes for granted: the repository's folders and the downloads.

    Args:
        folder: exists.
        dataset: name of the page.
        photos: give the pictures.
        reference: folder with the official checkpoints' names and shapes.
        counts: photos of each split.
    """
    for name in ("scripts", "configs", "model_zoo"):
        (folder / name).symlink_to(ROOT / name)
    weights = timm.create_model("test_resnet").state_dict()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "resnet50.safetensors")
    files = [photos.image_folder / name for name in photos.image_names[: sum(counts.values())]]
    make_official_folder(dataset, folder / SOURCE_FOLDERS.get(dataset, dataset), files, counts)
    write_official_checkpoint(dataset, reference, folder / f"yoso_res50_{dataset}.pth")
    if dataset == "coco":
        _write_instances(folder / "coco")


def _write_instances(folder: Path) -> None:
    """`annotations/instances_val2017.json` of the folder `coco`, with one box a photo."""
    content = json.loads((folder / "annotations/panoptic_val2017.json").read_text())
    content["categories"] = [category for category in content["categories"] if category["isthing"]]
    content["annotations"] = [
        {
            **{"id": k, "image_id": image["id"], "category_id": 1, "iscrowd": 0, "area": 400, "bbox": [4, 4, 20, 20]},
            "segmentation": [[4, 4, 24, 4, 24, 24, 4, 24]],
        }
        for k, image in enumerate(content["images"], start=1)
    ]
    (folder / "annotations/instances_val2017.json").write_text(json.dumps(content))


def save_stand_in(folder: Path, threshold: float = 0.5) -> None:
    """A tiny model with the labels of the COCO checkpoint in its place."""
    spec = DATASET_SPECS["coco"]
    tiny_model(id2label=spec.id2label, stuff_label_ids=spec.stuff_label_ids).save_pretrained(folder)
    size = {"shortest_edge": 48, "longest_edge": 64}
    YosoImageProcessor(size=size, label_ids_to_fuse=spec.stuff_label_ids, threshold=threshold).save_pretrained(folder)
