"""The training loop: Accelerate for devices and precision, exact resume, evaluation by panoptic quality."""

import copy
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from torch.utils.data import Dataset

from ..evaluation import evaluate_panoptic
from . import checkpointing
from .arguments import TrainingRun
from .data_loading import TrainingBatches, build_augmentation
from .divergence import TrainingDiverged, weights_are_finite
from .ema import ExponentialMovingAverage
from .full_weights import full_state_dict
from .optimizer_step import OptimizerStep
from .parameter_groups import build_parameter_groups
from .reporting import RunReport
from .run_record import describe_dataset, num_samples, write_record
from .run_state import RunState
from .schedules import build_schedule
from .shipping import ship_model
from .speed import prepare_for_speed
from .synced_batch_norm import synchronise_batch_norm


class PanopticTrainer:
    """
    Trains a YOSO model on panoptic samples.

    `output_dir` gets `log.jsonl`, `arguments.json`, `run.json`, `checkpoint-STEP/` to resume from, `best/` (the model
    with the highest PQ so far) and at the end the final model itself.

    The losses of an optimiser step are those of its global batch, however it is split into processes and passes, see
    [`loss_normalization`].

    Args:
        model: a `YosoForUniversalSegmentation`.
        image_processor: a `YosoImageProcessor`, for evaluation; also gives mean and std of the training batches.
        train_dataset, validation_dataset: what `open_dataset` gives.
        run: all arguments.
        accelerator: made by the caller, with the run's precision and tracker.

    Raises:
        ValueError: the batch sizes contradict each other, or the number of steps cannot be told.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        image_processor: Any,
        train_dataset: Dataset,
        validation_dataset: Dataset,
        run: TrainingRun,
        accelerator: Accelerator,
    ):
        self.run = run.resolved(num_samples(train_dataset), accelerator.num_processes)
        self.options, self.output, self.accelerator = self.run.optimization, self.run.output, accelerator
        self.image_processor = image_processor
        self.train_dataset, self.validation_dataset = train_dataset, validation_dataset
        self.output_dir = Path(self.output.output_dir)
        self.step, self.seconds, self.best_pq, self.best_step = 0, 0.0, -math.inf, 0
        self._prepare(model)
        self.state = RunState(accelerator, self.model, self.schedule, self.ema, image_processor)
        set_seed(self.options.seed, device_specific=True)

    def _prepare(self, model: torch.nn.Module) -> None:
        options, accelerator = self.options, self.accelerator
        model.to(accelerator.device).eval()  # until `train`, so that no statistics move
        self.ema = None if options.ema_decay is None else ExponentialMovingAverage(model, options.ema_decay)
        is_sharded = accelerator.distributed_type == DistributedType.FSDP
        self.whole_copy = copy.deepcopy(model) if is_sharded and self.ema is None else None
        prepare_for_speed(model, accelerator.device, is_sharded)
        model = synchronise_batch_norm(model, accelerator.device)
        if options.torch_compile:
            model.model.compile(dynamic=False)
        groups = build_parameter_groups(
            model, options.learning_rate, options.backbone_multiplier, options.weight_decay
        )
        optimizer = torch.optim.AdamW(groups, lr=options.learning_rate)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        if is_sharded and self.ema is not None:  # FSDP may have loaded the weights in the main process only
            self.ema.model.load_state_dict(full_state_dict(self._plain_model))
        self.schedule = build_schedule(
            optimizer,
            options.lr_scheduler_type,
            options.max_train_steps,
            options.lr_warmup_steps,
            options.lr_milestones,
        )
        self.take_step = OptimizerStep(
            self.model, self.optimizer, self.schedule, accelerator, options.max_grad_norm, self.ema
        )

    def train(self) -> dict[str, Any]:
        """
        Runs to `max_train_steps` and returns the last evaluation.

        Raises:
            TrainingDiverged: the loss is not finite; the message names the photos of that step. A checkpoint of the
                step before is kept.
            CheckpointWriteError: the disk is full; the last good checkpoint is kept.
            ValueError: the checkpoint to resume from belongs to another recipe or number of processes, or the output
                folder holds checkpoints of later steps, which this run would mix with its own.
        """
        self._start()
        try:
            result = self._run_steps()
        except TrainingDiverged as error:
            raise TrainingDiverged(f"{error} {self._keep_last_good_step()}") from error
        finally:
            self.report.close()
        result = result or self.evaluate()
        self._finish(result)
        return result

    def evaluate(self) -> dict[str, Any]:
        """Scores the averaged model (the trained one without averaging) on validation, and keeps it if it is best."""
        model = self.shipped_model()
        stance = torch.compiler.set_stance("force_eager") if self.options.torch_compile else nullcontext()
        with stance:
            result = evaluate_panoptic(
                model,
                self.image_processor,
                self.validation_dataset,
                self.accelerator,
                num_workers=self.options.dataloader_num_workers,
            )
        pq = result["all"]["pq"]
        id2label = model.config.id2label
        self.report.log_scores(
            self.step,
            **{f"eval_pq_{name}": round(result[name]["pq"], 5) for name in ("all", "things", "stuff")},
            eval_pq_per_class={
                id2label[label]: round(scores["pq"], 4) for label, scores in result["per_class"].items()
            },
            eval_seconds=round(result["seconds"], 1),
        )
        if pq > self.best_pq:
            self.best_pq, self.best_step = pq, self.step
            self._write_record()
            self._ship(self.output_dir / "best", model, result)
        return result

    def save_checkpoint(self) -> Path:
        """Writes `checkpoint-STEP`, whole or not at all, and removes the oldest ones over the limit."""
        target = checkpointing.checkpoint_folder(self.output_dir, self.step)
        progress = {
            **{"step": self.step, "seconds": self.seconds, "best_pq": self.best_pq, "best_step": self.best_step},
            "recipe": self.run.fixed_on_resume(),
        }
        position = self.batches.position_after(self.step * self.options.gradient_accumulation_steps)

        def write(folder: Path) -> None:
            self.state.save(folder, progress, position)
            if self.accelerator.is_main_process:
                write_record(folder, self.run, self._record())

        checkpointing.write_folder(target, write, self.accelerator)
        if self.accelerator.is_main_process:
            checkpointing.rotate_checkpoints(self.output_dir, self.output.checkpoints_total_limit)
        self.accelerator.wait_for_everyone()
        return target

    def load_checkpoint(self, folder: Path) -> dict[str, int]:
        """Puts the run back to where it was at `folder` and returns this process's position in the data."""
        progress, position = self.state.load(folder, self.run.fixed_on_resume())
        self.step, self.seconds = progress["step"], progress["seconds"]
        self.best_pq, self.best_step = progress["best_pq"], progress["best_step"]
        return position

    def shipped_model(self) -> torch.nn.Module:
        """
        The model that is evaluated and saved: the moving average if there is one. Every process must call it.

        With FSDP it is a whole copy.
        """
        if self.ema is not None:
            return self.ema.model
        if self.whole_copy is None:
            return self._plain_model
        self.whole_copy.load_state_dict(full_state_dict(self._plain_model))
        return self.whole_copy

    @property
    def _plain_model(self) -> torch.nn.Module:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _start(self) -> None:
        output = self.output
        if self.accelerator.is_main_process:
            checkpointing.clean_up(self.output_dir)
        self.accelerator.wait_for_everyone()
        position = None
        if output.resume_from_checkpoint is not None:
            checkpoint = checkpointing.resolve_checkpoint(self.output_dir, output.resume_from_checkpoint)
            if checkpoint is not None:
                position = self.load_checkpoint(checkpoint)
        checkpoints = checkpointing.list_checkpoints(self.output_dir)
        later = [folder.name for folder in checkpoints if checkpointing.checkpoint_step(folder) > self.step]
        if later:
            raise ValueError(
                f"{self.output_dir} holds {', '.join(later)} of another run and this one starts at step {self.step}. "
                "Continue with --resume_from_checkpoint latest, or choose another --output_dir."
            )
        self.batches = TrainingBatches(
            self.train_dataset,
            build_augmentation(self.run.data),
            self.image_processor,
            self.options.per_device_train_batch_size,
            self.options.seed,
            self.options.dataloader_num_workers,
            self.accelerator,
            position,
        )
        self.report = RunReport(
            self.output_dir / "log.jsonl", self.step, self.options.max_train_steps, self.accelerator
        )
        self._write_record()

    def _run_steps(self) -> dict[str, Any]:
        options, output = self.options, self.output
        batches, result = iter(self.batches), {}
        self.model.train()
        last_logged, clock = self.step, time.perf_counter()
        while self.step < options.max_train_steps:
            passes = [next(batches) for _ in range(options.gradient_accumulation_steps)]
            self.report.add_step(self.take_step(passes, self.step + 1))
            self.step += 1
            is_last = self.step == options.max_train_steps
            if self.step % output.logging_steps == 0:
                seconds = time.perf_counter() - clock
                self._log(self.step - last_logged, seconds)
                last_logged, clock = self.step, time.perf_counter()
            if self.step % output.eval_steps == 0 or is_last:
                paused = time.perf_counter()
                result = self.evaluate()
                clock += time.perf_counter() - paused
            if self.step % output.checkpointing_steps == 0 or is_last:
                self.save_checkpoint()
        return result

    def _log(self, num_steps: int, seconds: float) -> None:
        self.seconds += seconds
        self.report.log_losses(
            self.step,
            images=num_steps * self.options.total_train_batch_size,
            seconds=seconds,
            learning_rate=self.schedule.get_last_lr()[0],
            images_seen=self.step * self.options.total_train_batch_size,
        )

    def _keep_last_good_step(self) -> str:
        """After a step that failed before it moved the weights: saves the state in front of it, and says where."""
        self.take_step.undo()
        target = checkpointing.checkpoint_folder(self.output_dir, self.step)
        if not target.exists():
            if not weights_are_finite(self._plain_model, self.accelerator):
                return "The weights themselves are not finite; the last checkpoint is kept."
            self.save_checkpoint()
        return f"The state of step {self.step} is kept in {target}."

    def _ship(self, folder: Path, model: torch.nn.Module, result: dict[str, Any]) -> None:
        def write(unfinished: Path) -> None:
            if self.accelerator.is_main_process:
                ship_model(model, self.image_processor, unfinished, self.run, self.output_dir, result)

        checkpointing.write_folder(folder, write, self.accelerator)

    def _record(self) -> dict[str, Any]:
        return {
            "steps": self.step,
            "images_seen": self.step * self.options.total_train_batch_size,
            "seconds": round(self.seconds, 1),
            "num_processes": self.accelerator.num_processes,
            "seed": self.options.seed,
            "mixed_precision": self.options.mixed_precision,
            "best_step": self.best_step,
            "dataset": describe_dataset(self.train_dataset, self.validation_dataset, self.run),
        }

    def _write_record(self) -> None:
        if self.accelerator.is_main_process:
            with checkpointing.explained_write_errors(self.output_dir):
                write_record(self.output_dir, self.run, self._record())

    def _finish(self, result: dict[str, Any]) -> None:
        """Writes the final model into `output_dir` itself, by way of a folder so that no file there is ever partial."""
        self._write_record()
        final = self.output_dir / "final"
        self._ship(final, self.shipped_model(), result)
        if self.accelerator.is_main_process:
            checkpointing.move_files(final, self.output_dir)
        self.accelerator.wait_for_everyone()
