"""Training on a dataset that is read while training."""

import json

import torch
from accelerate.state import AcceleratorState

from panoptic_folders import coco_categories, segments_info_table
from training_runs import small_trainer
from transformers_yoso.data import open_dataset


def test_streamed_run_resumes_to_the_same_bits(photos, tmp_path):
    folder = tmp_path / "parquet"
    folder.mkdir()
    segments_info_table(photos, 5).to_parquet(folder / "train-00000-of-00001.parquet")
    (folder / "categories.json").write_text(json.dumps(coco_categories(photos)))
    stream = open_dataset(dataset_dir=folder, split="train", streaming=True, shuffle_buffer_size=3)

    whole = small_trainer(photos, tmp_path / "whole", train_dataset=stream)
    whole.train()
    AcceleratorState._reset_state(reset_partial_state=True)
    checkpoint = str(tmp_path / "whole" / "checkpoint-00000002")
    resumed = small_trainer(
        photos, tmp_path / "resumed", train_dataset=stream, seed_of_model=9, resume_from_checkpoint=checkpoint
    )
    resumed.train()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    record = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert record["dataset"]["splits"]["train"]["num_images"] is None and record["images_seen"] == 8
