"""The optimizer of a training, the same on every backend."""
from __future__ import annotations

import keras

from Network.training.settings import Settings


def make_optimizer(settings: Settings) -> keras.optimizers.Optimizer:
    """Adam with Keras's defaults (the thesis's), or RMSProp with decay 0.9 (Jackson et al. 2017); float16 gets a
    dynamic loss scale. The trainer sets the rate."""
    optimizer = keras.optimizers.RMSprop(rho=0.9) if settings.optimizer == "rmsprop" else keras.optimizers.Adam()
    return keras.optimizers.LossScaleOptimizer(optimizer) if settings.precision == "mixed_float16" else optimizer
