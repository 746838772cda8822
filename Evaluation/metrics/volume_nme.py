"""Equation (2) of Jackson et al. 2017: the mean error over the vertices of a face after ICP, in interocular distances.

It differs from the other metrics in two ways: it is normalised by the 3D distance between the outer corners of the
eyes, and it is measured at the ground truth's vertices. Surplus predicted surface (the back of the volume) does not
count, missing surface does.
"""
from __future__ import annotations

import numpy as np

from Dataset.geometry.transforms import as_points
from Evaluation.icp import icp
from Evaluation.metrics.distances import interocular_nme

OUTER_CORNERS = (36, 45)        # of the 68 landmarks
MAX_ITERATIONS = 500            # sliding along a surface takes many
TOLERANCE = 1e-7                # in units of the prediction's radius
DEFINITION = ("ground truth vertex -> nearest predicted point; aligned by ICP with scale (at most "
              f"{MAX_ITERATIONS} iterations); mean over the vertices / 3D distance of the outer eye corners")


def volume_nme(predicted: np.ndarray, truth: np.ndarray, eyes: np.ndarray, with_scale: bool = True, workers: int = -1
               ) -> float:
    """predicted (N, 3), truth (M, 3), any units; eyes (2, 3): the ground truth's outer corners, in its unit -> the
    error as a fraction of the interocular distance.

    ICP aligns the ground truth to the prediction: each true vertex has a partner, and surplus predicted points do not
    pull. Both clouds are first normalised to one centroid and size.

    with_scale  False: the prediction is in the ground truth's unit, and a wrong size counts
    ValueError as `Evaluation.icp.icp` and `interocular_nme`.
    """
    predicted, truth = as_points(predicted, "prediction"), as_points(truth, "ground truth")
    middle = predicted.mean(0), truth.mean(0)
    radius = [float(np.sqrt(((cloud - m) ** 2).sum(1).mean())) for cloud, m in zip((predicted, truth), middle)]
    if not min(radius) > 0:
        raise ValueError("volume_nme: want clouds with an extent, got one of equal points")
    size = radius if with_scale else [radius[1]] * 2
    cloud, face = (predicted - middle[0]) / size[0], (truth - middle[1]) / size[1]
    # the scale comes last: while the rotation is wrong, a smaller face lies nearer
    found = icp(face, cloud, MAX_ITERATIONS, TOLERANCE, workers=workers).transform
    if with_scale:
        found = icp(face, cloud, MAX_ITERATIONS, TOLERANCE, with_scale=True, initial=found, workers=workers).transform
    corners = found.apply((np.asarray(eyes, np.float64) - middle[1]) / size[1])
    return interocular_nme(cloud, found.apply(face), corners)
