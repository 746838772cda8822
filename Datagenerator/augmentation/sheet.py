"""Collages of augmented images:  python -m Datagenerator.augmentation.sheet SHARDS -o FOLDER [--images 24] [--seed 0]

Ronkainen 2017, figures 3.9, 3.10, 3.15 to 3.18 and A.4 to A.8. SHARDS need the buffers uv, mask and visible_mask.
FOLDER gets original.jpg, one NAME.jpg for each step alone, masks.jpg (the occluders' shapes), all.jpg, steps.jpg (one
image under each step), triplets.jpg and augmented_triplets.jpg (input, UV, mask, visible mask).
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from Datagenerator.augmentation.maps import MAPS, MapAugmentConfig, MapSample, augment_maps
from Dataset.io.command import one_line
from Dataset.io.images import tiled, write_image
from Dataset.synthesis.shards import Shards, open_shards

#: step -> the fields that switch it on alone, at the paper's strength; "occlusion" multiplies the visible mask
STEPS = {"rotation": {"quarters": 1.0}, "shuffle": {"shuffle": 1.0},
         "exposure and gamma": {"exposure": MAPS.exposure, "gamma": MAPS.gamma}, "noise": {"noise": MAPS.noise},
         "occlusion": {"crops": 1.0, "crops_cover": MAPS.crops_cover}}
COLUMNS, TILE, MAX_IMAGES = 8, 128, 64


def sample_of(shards: Shards, number: int) -> MapSample:
    """Image `number`, subject by subject after everybody's first: with its maps. ValueError without the buffers."""
    subject, image = number % len(shards), number // len(shards) % shards.images
    found = [shards.gather(name, [subject], [image])[0] for name in ("images", "uv", "mask", "visible_mask")]
    return MapSample(found[0], found[1].astype(np.float32), found[2], found[3].astype(np.float32))


def augmented(samples: Sequence[MapSample], config: MapAugmentConfig, seed: int) -> list[MapSample]:
    """Each sample under the steps of `config`, occluded by crops of two others; the same ones for a seed."""
    rng, count = np.random.default_rng(seed), len(samples)
    return [augment_maps(sample, np.random.default_rng(rng.integers(2**63)), config,
                         others=(samples[(i + 1) % count].image, samples[(i + 2) % count].image))
            for i, sample in enumerate(samples)]


def collage(images: Sequence[np.ndarray], columns: int = COLUMNS) -> np.ndarray:
    """Images (S, S, 3) uint8 as rows of `columns`, each TILE px wide, white where there is none: uint8 BGR."""
    return tiled([cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_LINEAR) for image in images], columns, 255)


def row_of(sample: MapSample) -> list[np.ndarray]:
    """Input, UV (u red, v green), mask and visible mask as images."""
    uv = np.where(sample.mask[..., None], sample.uv[..., 1::-1], 0)
    uv = np.concatenate([np.zeros_like(uv[..., :1]), uv], -1)
    grey = [np.repeat(values[..., None].astype(np.float32), 3, -1) for values in (sample.mask, sample.visible_mask)]
    return [sample.image, *(np.rint(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
                            for values in (uv, *grey))]


def write_sheets(folder: Path, samples: Sequence[MapSample], seed: int) -> list[Path]:
    """Write all collages of at least three samples -> their paths. ValueError for fewer."""
    if len(samples) < 3:
        raise ValueError(f"an occluder is made of two other images: at least 3 are needed, got {len(samples)}")
    under = {name: augmented(samples, MapAugmentConfig.off(**fields), seed) for name, fields in STEPS.items()}
    under["all"] = augmented(samples, MAPS, seed)
    shapes = [np.where(sample.mask, now.visible_mask, 1) for sample, now in zip(samples, under["occlusion"])]
    sheets = {"original": collage([sample.image for sample in samples]),
              **{name: collage([sample.image for sample in found]) for name, found in under.items()},
              "masks": collage([np.repeat(np.rint(255 * shape)[..., None].astype(np.uint8), 3, -1)
                                for shape in shapes]),
              "steps": collage([samples[0].image, *(found[0].image for found in under.values())], len(under) + 1),
              "triplets": collage([image for sample in samples[:2 * COLUMNS] for image in row_of(sample)]),
              "augmented_triplets": collage([image for sample in under["all"][:2 * COLUMNS]
                                             for image in row_of(sample)])}
    paths = []
    for name, sheet in sheets.items():
        paths.append(folder / f"{name.replace(' ', '_')}.jpg")
        write_image(paths[-1], sheet)
    return paths


@one_line("sheet")
def main(argv: list[str] | None = None) -> int:
    """Run a command line -> 0; 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m Datagenerator.augmentation.sheet", description=__doc__,
                                     allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, metavar="SHARDS")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--images", type=int, default=24, help=f"images of a collage, 3 to {MAX_IMAGES}; default 24")
    parser.add_argument("--seed", type=int, default=0, help="of the random choices; default 0")
    arguments = parser.parse_args(argv)
    if not 3 <= arguments.images <= MAX_IMAGES:
        raise ValueError(f"--images must be 3 to {MAX_IMAGES}, got {arguments.images}")
    shards = open_shards(arguments.shards)
    samples = [sample_of(shards, number) for number in range(arguments.images)]
    print(*(f"wrote {path}" for path in write_sheets(arguments.output, samples, arguments.seed)), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
