"""The optimizer of a training, the same on every backend."""
from __future__ import annotations

from typing import Any

import keras

from Network.training.settings import Settings


def make_optimizer(settings: Settings) -> keras.optimizers.Optimizer:
    """Adam with Keras's defaults (the thesis's), or RMSProp with decay 0.9 (Jackson et al. 2017), with weight decay
    where it is set; float16 gets a dynamic loss scale. The trainer sets the rate."""
    more = {"weight_decay": settings.weight_decay} if settings.weight_decay else {}
    optimizer = keras.optimizers.RMSprop(rho=0.9, **more) if settings.optimizer == "rmsprop" \
        else keras.optimizers.Adam(**more)
    return keras.optimizers.LossScaleOptimizer(optimizer) if settings.precision == "mixed_float16" else optimizer


class TwoOptimizers:
    """Two optimizers behind the interface that the trainer and the run folder use of one."""

    def __init__(self, generator: keras.optimizers.Optimizer, discriminator: keras.optimizers.Optimizer) -> None:
        self.generator, self.discriminator = generator, discriminator

    @property
    def parts(self) -> dict[str, keras.optimizers.Optimizer]:
        """Name of the part of the model -> its optimizer."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    @property
    def variables(self) -> list[Any]:
        """The generator's, then the discriminator's."""
        return [*self.generator.variables, *self.discriminator.variables]

    @property
    def built(self) -> bool:
        """Whether both have their variables."""
        return self.generator.built and self.discriminator.built

    @property
    def learning_rate(self) -> Any:
        """The one rate of both."""
        return self.generator.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self.generator.learning_rate = self.discriminator.learning_rate = rate
