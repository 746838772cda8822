"""Named sets of settings. A preset holds only what differs from the dataclasses' defaults, which are the papers'."""
from __future__ import annotations

import dataclasses
from typing import Any

from Network.config.flags import from_dict
from Network.models.registry import get_network
from Network.training.settings import Settings, TrainConfig

#: fields that the network's and the generator's configs share: one flag sets both
SHARED = ("image_size", "points", "images", "layers", "scaling", "feedback")

#: preset -> network and what differs from the defaults of Settings, TrainConfig, the network's Config, DataConfig
PRESETS: dict[str, dict[str, Any]] = {
    # Thomassen 2022, 4.3 and appendix B: the defaults are the thesis's
    "thesis": {"network": "convlstm", "settings": {}, "train": {}, "model": {}, "data": {}},
    # the same network for two CPU cores and a few minutes; validation subjects apart from the test subjects
    "quick": {
        "network": "convlstm",
        "settings": {"split": "train-validation-test"},
        "train": {"epochs": 20, "learning_rate": 1e-3, "halve_every": 6},
        "model": {},
        "data": {"images": 4, "batch_size": 16, "repeats": 1, "image_size": 64, "points": 1024},
    },
    # the thesis's network for two CPU cores, on shards: T is drawn for each batch
    "convlstm-small": {
        "network": "convlstm", "settings": {}, "model": {},
        "train": {"epochs": 25, "learning_rate": 1e-3, "schedule": "cosine", "warmup_epochs": 1, "patience": 1000},
        "data": {"image_size": 64, "points": 1024, "batch_images": 128, "batches": 120},
    },
    # the bundled network: trained on shards of synthetic subjects (python -m Dataset.shards)
    "compact": {
        "network": "compact",
        "settings": {},
        "train": {"epochs": 60, "learning_rate": 1e-3, "schedule": "cosine", "warmup_epochs": 1, "patience": 1000,
                  "choose_by": "keypoints"},
        "model": {}, "data": {},
    },
    # Ronkainen 2017, 3.4-3.7: Adam 1e-4, then 1e-5 with beta1 0.99; number of epochs and time of change are not given
    "uvnet": {
        "network": "uvnet", "settings": {}, "model": {}, "data": {"batch_size": 40, "image_size": 128},
        "train": {"schedule": "plateau", "choose_by": "uv"},
    },
    # the same for two CPU cores; one image in three occluded
    "uvnet-small": {
        "network": "uvnet", "settings": {}, "model": {},
        "data": {"batch_size": 32, "batches": 320, "image_size": 64, "occlusion": 0.35, "fade_epochs": 20},
        "train": {"epochs": 25, "learning_rate": 1e-3, "schedule": "cosine", "warmup_epochs": 1, "patience": 1000,
                  "choose_by": "uv"},
    },
    # Baby et al. 2020; rate and beta1, not given there, are pix2pix's. No early stop: the loss of a GAN need not fall
    "pix2pix": {
        "network": "pix2pix", "settings": {}, "model": {}, "data": {},
        "train": {"epochs": 90, "learning_rate": 2e-4, "halve_every": 0, "patience": 90, "choose_by": "l1"},
    },
    # the same for two CPU cores: batches of 16
    "pix2pix-small": {
        "network": "pix2pix", "settings": {}, "model": {},
        "data": {"image_size": 64, "batch_size": 16, "batches": 700},
        "train": {"epochs": 25, "learning_rate": 5e-4, "schedule": "cosine", "warmup_epochs": 1, "patience": 1000,
                  "choose_by": "l1"},
    },
    # Jackson et al. 2017; its review (CITATION.cff) gives neither the batch nor the number of epochs
    "vrn": {
        "network": "vrn", "settings": {"optimizer": "rmsprop"}, "model": {}, "data": {},
        "train": {"epochs": 80, "schedule": "drop", "patience": 80, "choose_by": "volume"},
    },
    # for two CPU cores
    "vrn-small": {
        "network": "vrn", "settings": {}, "model": {},
        "data": {"image_size": 64, "layers": 64, "batch_size": 16, "batches": 192},
        "train": {"epochs": 12, "learning_rate": 1e-3, "schedule": "cosine", "warmup_epochs": 1, "patience": 1000,
                  "choose_by": "volume"},
    },
    # Endrawis 2018, 3.1.3: Adam, the rate lowered where the loss stays, an early stop; rate and sizes are not given.
    # Shards of at least 200 px: python -m Dataset.shards OUT --size 200
    "coarse": {
        "network": "coarse", "settings": {}, "model": {}, "data": {"image_size": 200},
        "train": {"epochs": 60, "schedule": "plateau", "plateau_epochs": 3, "plateau_beta1": 0.9, "patience": 10},
    },
    # for two CPU cores; a single pass, for comparison: --no-feedback
    "coarse-small": {
        "network": "coarse", "settings": {}, "model": {}, "data": {"image_size": 128, "batches": 120},
        "train": {"epochs": 25, "learning_rate": 1e-3, "schedule": "cosine", "warmup_epochs": 1, "patience": 1000},
    },
}


def resolve(preset: str, typed: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The full config of a run: defaults, then the preset, then what was typed. ValueError for a bad value.

    `typed` has any of "settings", "train", "model", "data". The data's values stay a dict, since the script makes the
    generator's config from it.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    chosen = PRESETS[preset]

    def merged(part: str) -> dict[str, Any]:
        return {**chosen[part], **typed.get(part, {})}
    network = get_network(chosen["network"])
    # the network takes any number of images; the other shared settings that it has follow the data
    own = {field.name for field in dataclasses.fields(network.config)} - {"images"}
    shared = {name: value for name, value in merged("data").items() if name in SHARED and name in own}
    model = from_dict(network.config, {**dataclasses.asdict(network.presets[preset]), **merged("model"), **shared})
    data = {**merged("data"), **network.data_settings(model)}
    return {"preset": preset, "network": chosen["network"],
            "settings": dataclasses.asdict(from_dict(Settings, merged("settings"))),
            "train": dataclasses.asdict(from_dict(TrainConfig, merged("train"))),
            "model": dataclasses.asdict(model), "data": data}
