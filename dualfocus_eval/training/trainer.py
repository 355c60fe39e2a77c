"""transformers' Trainer with the token-sum loss, and checkpoints of which it is known that they are whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin, gather
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, Trainer, TrainerCallback

from dualfocus_eval.common.escaping import one_line
from dualfocus_eval.training.batches import REJECTED
from dualfocus_eval.training.checkpoints import keep_only
from dualfocus_eval.training.finite import refuse_non_finite, refuse_non_finite_weights
from dualfocus_eval.training.loss import token_sums
from dualfocus_eval.training.rejections import note_rejection

__all__ = ["ResumableTrainer", "TuningTrainer", "losses"]

logger = logging.getLogger(__name__)

Evaluator = Callable[[Any, Accelerator], dict[str, float]]
"""From the model as it is to scores by name."""


def losses(log: Iterable[Mapping[str, float]]) -> list[dict[str, float]]:
    """Step, loss and its parts, as often as a Trainer has logged them in its history ``log``."""
    return [
        {"step": entry["step"]} | {name: entry[name] for name in entry if name == "loss" or name.endswith("_loss")}
        for entry in log
        if "loss" in entry
    ]


class _OwnIntervals(TrainerCallback):  # type: ignore[misc]
    """Saves and evaluates as often as the arguments say, and not those that a checkpoint was saved under."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        state.compute_steps(args, state.max_steps)


class _Shares(TrainerCallback):  # type: ignore[misc]
    """Prints how many weights the processes hold, where FSDP shares them out."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        weights = list(model.parameters())
        shards = [weight.to_local() for weight in weights if isinstance(weight, DTensor)]
        if shards:
            held = gather(torch.tensor([sum(map(torch.numel, shards))], device=args.device)).tolist()
            if state.is_world_process_zero:
                every = sum(map(torch.numel, weights))
                print(f"weights: {every:,}, of which the processes hold {min(held):,} to {max(held):,}", flush=True)


def reduce_in_float32(plugin: FullyShardedDataParallelPlugin | None) -> None:
    """Have FSDP sum gradients over processes in float32, as training without it does.

    accelerate has them summed in the precision of the passes, and then the loss would depend on how many processes
    share a batch.
    """
    if plugin is not None and plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, reduce_dtype=torch.float32)


class ResumableTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose checkpoints are known to be whole, and of which only the last is kept.

    Its output folder lies in the stage's. It stops with `DivergedError` at the first loss, gradient norm or weight that
    is NaN or infinite, before the optimiser's step or the checkpoint.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step_losses: list[Tensor] = []

    @property
    def folder(self) -> Path:
        """The stage's."""
        return Path(self.args.output_dir).parent

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One forward and backward pass, whose loss is remembered until the step that it belongs to."""
        loss: Tensor = super().training_step(*args, **kwargs)
        self.step_losses.append(loss)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._refuse_non_finite("the loss", float(sum(self.step_losses)))
        # DeepSpeed knows none before its first step.
        self._refuse_non_finite("the gradient norm", 0.0 if norm is None else float(norm))
        self.step_losses.clear()
        return norm

    def _refuse_non_finite(self, name: str, value: float) -> None:
        refuse_non_finite(
            name,
            value,
            step=self.state.global_step + 1,
            folder=self.folder,
            learning_rate=self.args.learning_rate,
            half=self.args.bf16,
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        trained = ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)
        refuse_non_finite_weights(trained, f"stage {self.folder.name}, step {self.state.global_step}")
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            keep_only(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        model = model or self.model
        if self.is_fsdp_enabled or not isinstance(model, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        # Trainer's own looks for the names that weights have in memory. Saved under the hub's names it would find none
        # of them, warn, and go on with the weights that training began with.
        saved = type(model).from_pretrained(resume_from_checkpoint, dtype=model.dtype)
        model.load_state_dict(saved.state_dict())


class TuningTrainer(ResumableTrainer):
    """Minimises the cross-entropies of target tokens over their number in the global batch.

    Global is: over all processes and accumulated passes, so that neither changes the loss. Samples that turn out
    unusable are appended to ``rejected``, a file per process. ``evaluator`` takes the place of an evaluation loss.
    """

    def __init__(self, *, rejected: Path, evaluator: Evaluator | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        reduce_in_float32(getattr(self.accelerator.state, "fsdp_plugin", None))
        for callback in (_OwnIntervals, _Shares):
            self.add_callback(callback)
        self.rejected, self.evaluator = rejected, evaluator
        # Makes Trainer count the targets of the global batch, and leave the loss as it is.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self.sums = torch.zeros(4, dtype=torch.float64)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
    ) -> Any:
        """This pass's share of the loss, times the number of processes, over which gradients are averaged."""
        self._note(inputs.pop(REJECTED))
        sums = token_sums(model, inputs)
        parts = (sums.loss.detach(), sums.tokens, sums.grounding_loss, sums.grounding_tokens)
        self.sums += torch.stack([part.double() for part in parts]).cpu()
        targets = sums.tokens if num_items_in_batch is None else num_items_in_batch
        loss = sums.loss / torch.as_tensor(targets, device=sums.loss.device).clamp(min=1)
        return loss * self.accelerator.num_processes

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the mean losses of grounding (A1) and answer tokens since the last log, over all processes."""
        if "loss" in logs:
            sums = self.accelerator.reduce(self.sums.float().to(self.args.device), "sum").tolist()
            loss, tokens, grounding_loss, grounding_tokens = sums
            self.sums.zero_()
            if grounding_tokens:
                logs["grounding_loss"] = grounding_loss / grounding_tokens
            if tokens > grounding_tokens:
                logs["answer_loss"] = (loss - grounding_loss) / (tokens - grounding_tokens)
        super().log(logs, *args, **kwargs)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Scores of the evaluator, logged."""
        if self.evaluator is None:
            raise ValueError("nothing to evaluate with")
        model = self.accelerator.unwrap_model(self.model)
        with self.autocast_smart_context_manager():
            scores = {f"eval_{name}": value for name, value in self.evaluator(model, self.accelerator).items()}
        self.log(dict(scores))
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores

    def _note(self, samples: list[Any]) -> None:
        for sample in samples:
            logger.warning(one_line(f"{sample.where} is left out: {sample.reason}"))
            note_rejection(self.rejected, sample)
