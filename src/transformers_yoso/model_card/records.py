"""Reads the JSON files of a run; a missing file is nothing measured, a broken one is an error."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = str | os.PathLike | Mapping[str, Any] | None
"""A JSON file, its content, or nothing."""


@dataclass(frozen=True)
class CardRecords:
    """
    What is known of a checkpoint; empty where nothing is.

    Attributes:
        evaluation: scores in [0, 1], classes by name.
        arguments, run, log: of the training run, from `arguments.json`, `run.json` and `log.jsonl`.
        dataset: `name`, `license`, `source` and `splits`.
        speed: `hardware` and `results`.
    """

    evaluation: dict[str, Any]
    arguments: dict[str, Any]
    run: dict[str, Any]
    log: list[dict[str, Any]]
    dataset: dict[str, Any]
    speed: dict[str, Any]

    @classmethod
    def read(
        cls,
        evaluation: Record,
        run_dir: str | os.PathLike | None,
        dataset: Record,
        speed: Record,
        id2label: Mapping[int, str],
    ) -> "CardRecords":
        """Reads what there is; raises as [`read_record`] and [`read_log`] do."""
        run = read_run_file(run_dir, "run.json")
        scores = with_label_names(read_record(evaluation, "evaluation"), id2label)
        evaluated_dataset = {"name": scores["dataset"]} if scores.get("dataset") else {}
        return cls(
            evaluation=scores,
            arguments=read_run_file(run_dir, "arguments.json"),
            run=run,
            log=read_log(run_dir),
            dataset=read_record(dataset, "dataset description") or run.get("dataset") or evaluated_dataset,
            speed=read_record(speed, "speed measurement"),
        )


def read_record(source: Record, kind: str) -> dict[str, Any]:
    """
    Content of a JSON file, or of a mapping as JSON would give it back; empty for `None`.

    Args:
        source: file or content.
        kind: what it should be, for the message.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is no JSON object.
    """
    if source is None:
        return {}
    if isinstance(source, Mapping):
        return json.loads(json.dumps(source))
    file = Path(source)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file (the {kind} of the model card).")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: the {kind} is not valid JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: the {kind} must be a JSON object, got {type(content).__name__}.")
    return content


def read_run_file(run_dir: str | os.PathLike | None, name: str) -> dict[str, Any]:
    """Content of `run_dir/name`, empty if the run did not write it."""
    if run_dir is None or not (file := Path(run_dir) / name).is_file():
        return {}
    return read_record(file, name)


def read_log(run_dir: str | os.PathLike | None) -> list[dict[str, Any]]:
    """Lines of `run_dir/log.jsonl` in order, empty if there is none; raises `ValueError` naming a broken line."""
    if run_dir is None or not (file := Path(run_dir) / "log.jsonl").is_file():
        return []
    lines = []
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{file}: line {number} is not valid JSON ({error}).") from error
        if not isinstance(line, dict) or "step" not in line:
            raise ValueError(f"{file}: line {number} is no object with a `step`.")
        lines.append(line)
    return lines


def with_label_names(evaluation: Mapping[str, Any], id2label: Mapping[int, str]) -> dict[str, Any]:
    """The evaluation with names where its classes are label ids, as in memory before `scripts/evaluate.py` writes it."""
    names = {str(label): name for label, name in id2label.items()}
    per_class = evaluation.get("per_class", {})
    if per_class and set(per_class) <= set(names):
        per_class = {names[label]: scores for label, scores in per_class.items()}
    return {**evaluation, "per_class": per_class} if evaluation else {}
