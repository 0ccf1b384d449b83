"""Prediction of whole datasets by many processes, shard by shard, so that a killed job goes on where it stopped."""

from .job import PredictionJob
from .shards import Shard, open_shards

__all__ = ["PredictionJob", "Shard", "open_shards"]
