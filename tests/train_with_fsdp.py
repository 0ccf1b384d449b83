"""scripts/train.py with FSDP2 on CPU processes (gloo), for which Accelerate itself turns FSDP off."""

import runpy
from pathlib import Path
from typing import Any
from unittest.mock import patch

from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from transformers_yoso.training import command


def make_sharding_accelerator(**options: Any) -> Accelerator:
    accelerator = Accelerator(**options)
    for state in (PartialState, AcceleratorState):
        state._shared_state["distributed_type"] = DistributedType.FSDP
    # Reads what `accelerate launch` took from its configuration.
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
    assert accelerator.is_fsdp2
    return accelerator


with patch.object(command, "Accelerator", make_sharding_accelerator):
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "train.py"), run_name="__main__")
