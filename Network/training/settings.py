"""Settings of a run and of its training loop, as frozen dataclasses. No Keras here: flags are read before it loads."""
from __future__ import annotations

from dataclasses import dataclass

from Dataset.sources.subjects import SPLITS

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
SCHEDULES = ("halve", "cosine", "plateau", "drop", "exponential")
OPTIMIZERS = ("adam", "rmsprop")
STRATEGIES = ("none", "mirrored", "multiworker")


@dataclass(frozen=True)
class Settings:
    """What belongs to the run as a whole."""

    split: str = "train-test"       # or train-validation-test: the thesis chooses its checkpoint on its test subjects
    precision: str = "auto"         # float32, mixed_bfloat16, mixed_float16; auto: bfloat16 where native, or float32
    jit: bool = False               # XLA, for GPUs
    strategy: str = "none"          # none, mirrored (this machine's GPUs), multiworker (TF_CONFIG)
    optimizer: str = "adam"         # adam, or rmsprop with decay 0.9
    weight_decay: float = 0.0       # of every weight, times the rate, at each update (decoupled, as AdamW)
    deterministic: bool = False     # deterministic TensorFlow ops: slower, the same losses each time
    seed: int = 0                   # of weights, order and augmentation
    warm_start: str = ""            # initial weights: a run, a weight folder or a model file
    transfer: tuple[str, ...] = ()  # of these, only layers whose names begin so; (): all of them
    freeze: tuple[str, ...] = ()    # layers whose names begin so keep their initial weights

    def __post_init__(self) -> None:
        for name, values in (("precision", PRECISIONS), ("split", SPLITS),
                             ("strategy", STRATEGIES), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in values:
                raise ValueError(f"{name} must be one of {', '.join(values)}, got {getattr(self, name)!r}")
        if not 0 <= self.weight_decay < 1:
            raise ValueError(f"weight_decay must be at least 0 and below 1, got {self.weight_decay}")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the loop; the defaults are the thesis's (4.3 and listing B-4)."""

    epochs: int = 300               # at most; see patience
    learning_rate: float = 1e-4     # before the schedule
    schedule: str = "halve"         # halve, cosine (to a hundredth, over all epochs), plateau, drop (once), exponential
    warmup_epochs: int = 0          # the rate rises to its value over so many epochs
    halve_every: int = 10           # halved after the 11th, 21st, ... epoch, as the listing does; 0: never
    plateau_epochs: int = 5         # without a better validation loss, of choose_by: then the plateau is reached
    plateau_factor: float = 0.1     # of the rate from then on
    plateau_beta1: float = 0.99     # Adam's from then on, 0.9 before
    drop_after: int = 40            # epochs of the full rate, schedule drop
    drop_factor: float = 0.1        # of the rate from then on
    decay: float = 0.9              # of the rate after each epoch, schedule exponential
    choose_by: str = "loss"         # whose smallest value makes best_validation: the loss or one of its parts
    patience: int = 30              # epochs without a better validation or training loss
    accumulate: int = 1             # batches per update
    checkpoint_minutes: float = 10  # the state is also saved this often within an epoch
    max_steps: int = 0              # stop after so many updates in all; 0: no limit

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "accumulate", "drop_after"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        for name in ("warmup_epochs", "halve_every", "checkpoint_minutes", "max_steps"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not (self.plateau_epochs >= 1 and 0 < self.plateau_factor <= 1 and 0 <= self.plateau_beta1 < 1):
            raise ValueError(f"plateau_epochs must be at least 1, plateau_factor in (0, 1], plateau_beta1 in [0, 1), "
                             f"got {self.plateau_epochs}, {self.plateau_factor}, {self.plateau_beta1}")
        for name in ("drop_factor", "decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        if self.schedule == "plateau" and self.patience <= self.plateau_epochs:
            raise ValueError(f"patience must be more than plateau_epochs, {self.plateau_epochs}, or the run ends "
                             f"before the rate falls; got {self.patience}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate}")
