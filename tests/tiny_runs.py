"""Run folders of tiny networks with drawn weights, and tiny data: for tests of what the scripts do, not of how well."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np

from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards
from Dataset.synthesis.subject_folders import Options, make_dataset
from Network import mobile3model
from Network.models import coarse
from Network.training.checkpoints import CHECKPOINTS, RunFolder

CONVLSTM = mobile3model.Config(image_size=32, points=256, lstm_filters=(4, 4), lstm_strides=(2, 2), block_filters=(4,),
                               block_strides=(1,), block_expansion=(1,), block_repeats=(1,), squeeze=False,
                               link_filters=(4,), decoder_filters=(4, 4))
COARSE = coarse.Config(image_size=32, stem_filters=8, stem_pool=False, filters=(8, 16), blocks=(1, 1), tolerance=0.0)


def write_run(folder: Path, network: str, module: Any, config: Any, seed: int = 0, **more: Any) -> Path:
    """A run folder whose checkpoints have different weights."""
    run = RunFolder(folder)
    run.start({"network": network, "model": dataclasses.asdict(config), "order": "grid",
               "data": {"images": 2, "image_size": config.image_size, "points": getattr(config, "points", 0)},
               "settings": {"split": "train-test"}, **more})
    for number, checkpoint in enumerate(CHECKPOINTS):
        keras.utils.set_random_seed(seed + number)
        model, rng = module.build(config), np.random.default_rng(seed + number)
        for weight in model.trainable_weights:      # some are zero where a training begins
            weight.assign_add(rng.normal(0, 0.02, weight.shape))
        run.save_weights(model, checkpoint)
    return folder


def convlstm_run(folder: Path) -> Path:
    return write_run(folder, "convlstm", mobile3model, CONVLSTM)


def coarse_run(folder: Path, **more: Any) -> Path:
    """more: of the config, e.g. `face_model`, the hash of the model whose coefficients it predicts."""
    return write_run(folder, "coarse", coarse, COARSE, **more)


def write_subjects(folder: Path) -> Path:
    """10 subject folders, 4 images of 32 px and 256 points each."""
    make_dataset(folder, Options(subjects=10, images=4, size=32, points=256, seed=3))
    return folder


def write_shards(folder: Path, size: int = 128, subjects: int = 2) -> Path:
    """Shards of 2 images for each subject."""
    make_shards(folder, RenderOptions(subjects=subjects, images=2, size=size, seed=6, yaw=20, pitch=5, roll=5, detect=0,
                                      glasses=0, buffers=("uv", "visible_mask")))
    return folder
