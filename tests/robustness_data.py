"""Keypoints of test subjects for tests/test_robustness.py:  python -m tests.robustness_data SHARDS

SHARDS: the frozen test set (`evaluate.py --compare` renders it into the user's cache). Its first eight subjects' first
two photos go through the bundled `compact`; tests/data/robustness.npz gets keypoints (8, 2, 256, 2) crop sides and
log_variance (8, 2, 256), float16, and the true identity (8, 200) float32.
"""
import sys
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "data" / "robustness.npz"
SUBJECTS, PHOTOS = 8, 2


def main(folder: str) -> None:
    from Dataset.io.images import minmax
    from Dataset.synthesis.shards import open_shards
    from Network.readout.finder import keypoint_finder
    from Network.engine.loaded import DEFAULT_MODEL
    from Network.readout.mirrored import both_ways
    shards = open_shards(folder)
    photos = shards.gather("images", np.arange(SUBJECTS))[:, :PHOTOS]
    find = both_ways(keypoint_finder(DEFAULT_MODEL))
    found = find(np.stack([minmax(one) for one in photos.reshape(-1, *photos.shape[2:])]))
    keypoints, log_variance = (one.reshape(SUBJECTS, PHOTOS, *one.shape[1:]).astype(np.float16) for one in found)
    np.savez_compressed(FILE, keypoints=keypoints, log_variance=log_variance,
                        identity=shards.gather("identity", np.arange(SUBJECTS)))


if __name__ == "__main__":
    main(sys.argv[1])
