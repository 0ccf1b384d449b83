"""The training loop: Accelerate for devices and precision, exact resume, evaluation by panoptic quality."""

import json
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

from ..data import AugmentedDataset, PanopticCollator, SampleStream, TrainingAugmentation
from ..evaluation import evaluate_panoptic
from . import checkpointing
from .arguments import TrainingRun
from .ema import ExponentialMovingAverage
from .json_log import JsonLinesLog
from .model_setup import save_model_folder
from .parameter_groups import build_parameter_groups
from .schedules import build_schedule
from .speed import prepare_for_speed


class TrainingDiverged(RuntimeError):
    """The loss became NaN or infinite."""


class PanopticTrainer:
    """
    Trains a YOSO model on panoptic samples.

    `output_dir` gets `log.jsonl`, `checkpoint-STEP/` to resume from, `best/` (the model with the highest PQ so far) and
    at the end the final model itself.

    The losses of an optimiser step are those of its global batch: the mask losses are divided by its number of target
    masks over all processes and accumulated passes, and the class losses are averaged over them.

    Args:
        model: a `YosoForUniversalSegmentation`.
        image_processor: a `YosoImageProcessor`, for evaluation; also gives mean and std of the training batches.
        train_dataset: of `PanopticSample`.
        validation_dataset: of `PanopticSample`.
        run: all arguments.
        accelerator: made by the caller, with the run's precision.
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
        self.run, self.options, self.accelerator = run, run.optimization, accelerator
        self.image_processor = image_processor
        self.train_dataset, self.validation_dataset = train_dataset, validation_dataset
        self.output_dir = Path(self.options.output_dir)
        options = self.options
        self.ema = None
        if options.ema_decay is not None:
            self.ema = ExponentialMovingAverage(model.to(accelerator.device), options.ema_decay)
        prepare_for_speed(model, accelerator.device)
        groups = build_parameter_groups(
            model, options.learning_rate, options.backbone_multiplier, options.weight_decay
        )
        optimizer = torch.optim.AdamW(groups, lr=options.learning_rate)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.schedule = build_schedule(
            optimizer,
            options.lr_scheduler_type,
            options.max_train_steps,
            options.lr_warmup_steps,
            options.lr_milestones,
        )
        self.step, self.best_pq, self.best_step = 0, -math.inf, 0
        set_seed(options.seed, device_specific=True)

    def train(self) -> dict[str, Any]:
        """
        Runs to `max_train_steps` and returns the last evaluation.

        Raises:
            TrainingDiverged: the loss is not finite; the message names the photos of that step.
            ValueError: the checkpoint to resume from belongs to another recipe or number of processes, or the output
                folder holds checkpoints of later steps, which this run would mix with its own.
        """
        options = self.options
        self._start()
        batches = iter(self._loader())
        result: dict[str, Any] = {}
        self.model.train()
        window, window_start = [], time.perf_counter()
        while self.step < options.max_train_steps:
            window.append(self._optimizer_step([next(batches) for _ in range(options.gradient_accumulation_steps)]))
            self.step += 1
            if self.step % options.logging_steps == 0:
                self._log_window(window, time.perf_counter() - window_start)
                window, window_start = [], time.perf_counter()
            if self.step % options.eval_steps == 0 or self.step == options.max_train_steps:
                paused = time.perf_counter()
                result = self.evaluate()
                window_start += time.perf_counter() - paused
            if self.step % options.checkpointing_steps == 0 or self.step == options.max_train_steps:
                self.save_checkpoint()
        self._save_final()
        return result or self.evaluate()

    def evaluate(self) -> dict[str, Any]:
        """Scores the averaged model (the trained one without averaging) on validation, and keeps it if it is best."""
        model = self.shipped_model
        result = evaluate_panoptic(
            model,
            self.image_processor,
            self.validation_dataset,
            self.accelerator,
            num_workers=self.options.dataloader_num_workers,
        )
        pq = result["all"]["pq"]
        if self.accelerator.is_main_process:
            id2label = model.config.id2label
            scores = {f"eval_pq_{name}": round(result[name]["pq"], 5) for name in ("all", "things", "stuff")}
            per_class = {id2label[label]: round(values["pq"], 4) for label, values in result["per_class"].items()}
            self._report(**scores, eval_pq_per_class=per_class, eval_seconds=round(result["seconds"], 1))
            if pq > self.best_pq:
                checkpointing.write_folder(self.output_dir / "best", self._write_model)
        if pq > self.best_pq:
            self.best_pq, self.best_step = pq, self.step
        self.accelerator.wait_for_everyone()
        return result

    def save_checkpoint(self) -> Path:
        """Writes `checkpoint-STEP`, whole or not at all, and removes the oldest ones over the limit."""
        target = checkpointing.checkpoint_folder(self.output_dir, self.step)
        unfinished = checkpointing.unfinished_folder(target)
        if self.accelerator.is_main_process:
            checkpointing.make_empty(unfinished)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(unfinished))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            torch.save(self.schedule.state_dict(), unfinished / "schedule.pt")
            if self.ema is not None:
                torch.save(self.ema.state_dict(), unfinished / "ema.pt")
            state = {
                "step": self.step,
                "best_pq": self.best_pq,
                "best_step": self.best_step,
                "num_processes": self.accelerator.num_processes,
                "recipe": self.run.recipe(),
            }
            (unfinished / "trainer_state.json").write_text(json.dumps(state, indent=2) + "\n")
            checkpointing.finish_folder(unfinished, target)
            checkpointing.rotate_checkpoints(self.output_dir, self.options.checkpoints_total_limit)
        self.accelerator.wait_for_everyone()
        return target

    def load_checkpoint(self, folder: Path) -> None:
        """Puts model, average, optimiser, schedule, generators and place in the data as they were at `folder`."""
        state = json.loads((folder / "trainer_state.json").read_text())
        if state["num_processes"] != self.accelerator.num_processes:
            raise ValueError(
                f"{folder} was written by {state['num_processes']} processes and this run has "
                f"{self.accelerator.num_processes}; resume with the same number, or start a new run from its weights "
                "with --model_name_or_path."
            )
        recipe = json.loads(json.dumps(self.run.recipe()))
        differing = [name for name, value in recipe.items() if state["recipe"].get(name) != value]
        if differing:
            changes = ", ".join(f"{name} {state['recipe'].get(name)} -> {recipe[name]}" for name in differing)
            raise ValueError(f"{folder} belongs to another recipe ({changes}). Resume with the same arguments.")
        self.schedule.load_state_dict(torch.load(folder / "schedule.pt", weights_only=True))
        if self.ema is not None:
            self.ema.load_state_dict(torch.load(folder / "ema.pt", map_location="cpu", weights_only=True))
        self.step, self.best_pq, self.best_step = state["step"], state["best_pq"], state["best_step"]
        self.accelerator.load_state(str(folder))

    @property
    def shipped_model(self) -> torch.nn.Module:
        """The model that is evaluated and saved: the moving average if there is one."""
        return self.ema.model if self.ema is not None else self.accelerator.unwrap_model(self.model)

    def _start(self) -> None:
        options = self.options
        if self.accelerator.is_main_process:
            checkpointing.clean_up(self.output_dir)
        self.accelerator.wait_for_everyone()
        if options.resume_from_checkpoint is not None:
            checkpoint = checkpointing.resolve_checkpoint(self.output_dir, options.resume_from_checkpoint)
            if checkpoint is not None:
                self.load_checkpoint(checkpoint)
        checkpoints = checkpointing.list_checkpoints(self.output_dir)
        later = [folder.name for folder in checkpoints if checkpointing.checkpoint_step(folder) > self.step]
        if later:
            raise ValueError(
                f"{self.output_dir} holds {', '.join(later)} of another run and this one starts at step {self.step}. "
                "Continue with --resume_from_checkpoint latest, or choose another --output_dir."
            )
        if self.accelerator.is_main_process:
            self.log = JsonLinesLog(self.output_dir / "log.jsonl", self.step)
            arguments = json.dumps(self.run.as_dict(), indent=2)
            (self.output_dir / "arguments.json").write_text(arguments + "\n")

    def _loader(self) -> DataLoader:
        data, options = self.run.data, self.options
        augmentation = TrainingAugmentation(data.image_size, tuple(data.scale_range), data.color_distortion)
        return DataLoader(
            AugmentedDataset(self.train_dataset, augmentation, options.seed),
            batch_sampler=SampleStream(
                len(self.train_dataset),
                options.per_device_train_batch_size,
                options.seed,
                start_batch=self.step * options.gradient_accumulation_steps,
                process_index=self.accelerator.process_index,
                num_processes=self.accelerator.num_processes,
            ),
            collate_fn=PanopticCollator(self.image_processor.image_mean, self.image_processor.image_std),
            num_workers=options.dataloader_num_workers,
            pin_memory=self.accelerator.device.type == "cuda",
            generator=torch.Generator(),  # a loader otherwise draws from the global generator, once per start
        )

    def _optimizer_step(self, batches: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        file_names = [name for batch in batches for name in batch.pop("file_names")]
        masks_per_pass = self._masks_per_pass(batches)
        totals: dict[str, torch.Tensor] = {}
        for index, batch in enumerate(batches):
            is_last = index == len(batches) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                outputs = self.model(**_to_device(batch, self.accelerator), num_items_in_batch=masks_per_pass)
                loss = outputs.loss / len(batches)
                self._check_finite(loss, outputs.loss_dict, file_names)
                self.accelerator.backward(loss)
            for name, value in {"loss": outputs.loss, **outputs.loss_dict}.items():
                totals[name] = totals.get(name, 0) + value.detach() / len(batches)
        gradient_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not self.accelerator.optimizer_step_was_skipped:
            self.schedule.step()
            if self.ema is not None:
                self.ema.update(self.accelerator.unwrap_model(self.model))
        return {**totals, "gradient_norm": gradient_norm}

    def _masks_per_pass(self, batches: list[dict[str, Any]]) -> float:
        """Target masks of the global batch per process and pass; Accelerate and DDP average over both."""
        count = sum(len(labels) for batch in batches for labels in batch["class_labels"])
        total = self.accelerator.reduce(torch.tensor(float(count), device=self.accelerator.device), "sum")
        return max(float(total) / (self.accelerator.num_processes * len(batches)), 1.0)

    def _check_finite(self, loss: torch.Tensor, parts: dict[str, torch.Tensor], file_names: list[str]) -> None:
        if torch.isfinite(loss):
            return
        culprits = [name for name, value in parts.items() if not torch.isfinite(value)]
        raise TrainingDiverged(
            f"The loss is {loss.item()} at step {self.step + 1} (in {', '.join(culprits)}). Photos of the step: "
            f"{', '.join(file_names)}. The last checkpoint is kept. Try a lower learning rate, or full precision."
        )

    def _log_window(self, window: list[dict[str, torch.Tensor]], seconds: float) -> None:
        names = list(window[0])
        sums = torch.stack([torch.stack([values[name].float() for name in names]) for values in window]).mean(0)
        means = dict(zip(names, self.accelerator.reduce(sums, "mean").tolist(), strict=True))
        batch = self.options.per_device_train_batch_size * self.options.gradient_accumulation_steps
        images = len(window) * batch * self.accelerator.num_processes
        if self.accelerator.is_main_process:
            self._report(
                **{name: round(value, 5) for name, value in means.items()},
                learning_rate=self.schedule.get_last_lr()[0],
                images_per_second=round(images / seconds, 2),
            )

    def _report(self, **values: Any) -> None:
        self.log.append(self.step, **values)
        shown = {name: value for name, value in values.items() if not name.startswith("stage")}
        print(f"step {self.step}/{self.options.max_train_steps} {shown}", flush=True)

    def _write_model(self, folder: Path) -> None:
        save_model_folder(self.shipped_model, self.image_processor, folder, self.options.save_half_precision)

    def _save_final(self) -> None:
        if self.accelerator.is_main_process:
            self._write_model(self.output_dir)
        self.accelerator.wait_for_everyone()


def _to_device(batch: dict[str, Any], accelerator: Accelerator) -> dict[str, Any]:
    def move(value: Any) -> Any:
        if isinstance(value, list):
            return [move(item) for item in value]
        return value.to(accelerator.device, non_blocking=True)

    return {name: move(value) for name, value in batch.items()}
