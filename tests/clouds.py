"""Face-like clouds for the tests of the evaluation: asymmetric, so that one pose alone fits."""
import numpy as np

from Dataset.geometry.transforms import to_unit_sphere


def face(n=900, seed=0, nose=0.35, eyes=0.1, skew=0.08, side=None):
    """(n, 3) points of a mask with a nose and eye sockets, in the unit sphere, drawn at random from the surface.

    side: instead of n, a grid of side x side points in one order, so that index means position.
    """
    if side:
        line = np.linspace(-1, 1, side)
        x, y = (a.ravel() for a in np.meshgrid(line, -line))
    else:
        x, y = np.random.default_rng(seed).uniform(-1, 1, (n, 2)).T
    z = np.sqrt(np.clip(1.7 - x ** 2 - 0.6 * y ** 2, 0, None))
    z = z + nose * np.exp(-(x / 0.15) ** 2 - ((y + 0.1) / 0.3) ** 2)
    z = z - eyes * np.exp(-((np.abs(x) - 0.35) / 0.15) ** 2 - ((y - 0.25) / 0.1) ** 2) + skew * x * y + 0.05 * x
    return to_unit_sphere(np.stack([0.8 * x, y, z], axis=1))[0]
