"""Triton kernels become machine code for a GPU, which needs none: what only the GPU's compiler refuses is seen here."""

import pytest

pytest.importorskip("triton")
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from transformers_yoso.models.deformable_sampling_triton import _sampling_kernel
from transformers_yoso.models.panoptic_assignment_triton import _assignment_kernel

POINTERS = {
    _sampling_kernel: {"projected": "fp16", "offsets": "fp16", "output": "fp16"},
    _assignment_kernel: {
        "masks": "fp16",
        "kept_queries": "i64",
        "num_kept": "i64",
        "scores": "fp32",
        "row_indices": "i32",
        "row_weights": "fp32",
        "column_indices": "i32",
        "column_weights": "fp32",
        "codes": "i32",
        "areas": "i32",
    },
}
CONSTANTS = {
    _sampling_kernel: {"channels": 256, "kernel_size": 3, "pixel_block": 8, "channel_block": 128},
    _assignment_kernel: {"row_taps": 4, "column_taps": 4, "block_rows": 4, "block_columns": 128},
}
FLOATS = ("mask_threshold",)


@pytest.mark.parametrize("kernel", [_sampling_kernel, _assignment_kernel], ids=lambda kernel: kernel.fn.__name__)
@pytest.mark.parametrize("capability", [80, 90])
def test_compiles_for_a_gpu(kernel: triton.JITFunction, capability: int) -> None:
    signature = {name: "fp32" if name in FLOATS else "i32" for name in kernel.arg_names}
    signature |= {name: f"*{dtype}" for name, dtype in POINTERS[kernel].items()}
    signature |= dict.fromkeys(CONSTANTS[kernel], "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=CONSTANTS[kernel])
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert len(compiled.asm["cubin"]) > 0
