"""How parameters are learned: an optimizer, its rate over the steps, and when to stop."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SGD", "AdamW", "Learner", "Recipe"]


@dataclass(frozen=True)
class Recipe(ABC):
    """What all recipes share: `AdamW` and `SGD` say the rest.

    The gradient's norm is clipped at `clip` (Pascanu et al. 2013). Training ends after `epochs`, after
    `patience` epochs in a row that were no better than the best (0: never), or after `minutes` with
    validation (0: no limit). `amp` is bf16 or fp16 for autocast, off for none.
    """

    epochs: int
    lr: float
    clip: float = 1.0
    weight_decay: float = 0.0
    patience: int = 0
    minutes: float = 0.0
    amp: str = "off"

    @abstractmethod
    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The fused one: on a small model the unfused update costs as much as the recurrent layer."""

    @abstractmethod
    def lr_at(self, step: int, steps: int, stalls: int = 0) -> float:
        """The rate of `step` (from 0) of `steps`, after `stalls` epochs that were no better than the best."""

    def stated(self) -> str:
        """The recipe in words, for the metrics."""
        ends = f"{self.epochs} epochs" + f", patience {self.patience}" * bool(self.patience)
        ends += f", {self.minutes:g} minutes at most" * bool(self.minutes)
        amp = f", autocast {self.amp}" * (self.amp != "off")
        return f"clip {self.clip:g}, weight decay {self.weight_decay:g}{amp}; {ends}"

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Scales the loss where fp16's small exponent needs it, and does nothing otherwise."""
        return torch.amp.GradScaler(device.type, enabled=self.amp == "fp16")

    def autocast(self, device: torch.device) -> torch.autocast:
        """What the loss of a step is computed under."""
        dtype = torch.float16 if self.amp == "fp16" else torch.bfloat16
        return torch.autocast(device.type, dtype, enabled=self.amp != "off")

    def update(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, scaler: Any = None
    ) -> None:  # fmt: skip
        """One step down the gradient of `loss`, its norm clipped."""
        optimizer.zero_grad(set_to_none=True)
        if scaler is None or not scaler.is_enabled():
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), self.clip)
            optimizer.step()
            return
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), self.clip)
        scaler.step(optimizer)
        scaler.update()


@dataclass(frozen=True)
class AdamW(Recipe):
    """AdamW (Loshchilov & Hutter 2019): warm-up, then a cosine down to zero."""

    weight_decay: float = 0.01
    warmup: float = 0.05

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), self.lr, weight_decay=self.weight_decay, fused=True)

    def lr_at(self, step: int, steps: int, stalls: int = 0) -> float:
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.lr * (step + 1) / warm
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    def stated(self) -> str:
        return f"AdamW, fused, lr {self.lr:g} after a warm-up of {self.warmup:g}, cosine to 0, {super().stated()}"


@dataclass(frozen=True)
class SGD(Recipe):
    """Plain stochastic gradient descent whose rate is quartered after each epoch that was no better."""

    factor: float = 0.25

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), self.lr, weight_decay=self.weight_decay, fused=True)

    def lr_at(self, step: int, steps: int, stalls: int = 0) -> float:
        return self.lr * self.factor**stalls

    def stated(self) -> str:
        return f"SGD, fused, lr {self.lr:g}, times {self.factor:g} when validation stalls, {super().stated()}"


class Learner:
    """A model that learns by a recipe: it with its optimizer, whose every step is made here."""

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.model, self.recipe, self.device = model, recipe, next(model.parameters()).device
        self.optimizer, self.scaler = recipe.optimizer(model), recipe.scaler(self.device)

    def step(self, loss: Callable[[Any], Tensor], batch: Any, lr: float, factor: float = 1.0) -> Tensor:
        """A step at the rate `lr` down the gradient of `factor * loss(batch)`, under autocast where the recipe says so.

        Returns `loss(batch)`, detached.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with self.recipe.autocast(self.device):
            value = loss(batch)
        self.recipe.update(self.model, self.optimizer, value if factor == 1.0 else value * factor, self.scaler)
        return value.detach()
