"""Numbers of the paper (arXiv 2303.14651) and of its released code (github.com/hujiecpp/YOSO), none of ours."""

from dataclasses import dataclass

AGGREGATION_OPERATIONS = {"ifa": 16.6e9, "cfa": 2.1e9}
"""Table 5, at 1024 x 1024 pixels: `demo/neck_Latency_and_FLOPs.ipynb` counts levels of 256 x 256 to 32 x 32."""

AGGREGATION_SPEEDUP = 2.6
"""Table 5: latency of IFA by that of CFA, on a GPU."""

ATTENTION_OPERATIONS = {"mhca": 31.5e6, "sdca": 5.4e6, "dca": 15.5e6, "pdca": 5.2e6, "ddca": 0.3e6}
"""Table 6, at n=100, d=256, t=3; `demo/head_Latency_and_FLOPs.ipynb` counts them one by one."""


@dataclass(frozen=True)
class PublishedResult:
    """A line of the released model zoo (README of the authors' repository).

    Attributes:
        dataset: a name among `DATASET_SPECS`.
        shortest_edge, longest_edge: test size in pixels.
        panoptic_quality: on the validation split, in per cent.
        frames_per_second: on `gpu`, upsampling and merging included.
        gpu: NVIDIA's name.
    """

    dataset: str
    shortest_edge: int
    longest_edge: int
    panoptic_quality: float
    frames_per_second: float
    gpu: str

    @property
    def name(self) -> str:
        """For example "coco 800, 1333"."""
        return f"{self.dataset} {self.shortest_edge}, {self.longest_edge}"


RESULTS = (
    PublishedResult("coco", 800, 1333, 48.4, 23.6, "V100"),
    PublishedResult("coco", 512, 800, 46.4, 45.6, "V100"),
    PublishedResult("cityscapes", 1024, 2048, 59.7, 11.1, "V100"),
    PublishedResult("cityscapes", 512, 1024, 52.5, 22.6, "V100"),
    PublishedResult("ade20k", 640, 2560, 38.0, 35.4, "V100"),
    PublishedResult("mapillary", 2048, 2048, 34.1, 7.1, "A100"),
)
