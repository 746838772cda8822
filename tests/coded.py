"""Images that say what they show: bright and dark fields, so that a target can be held against the pixels it names.

A field is bright or dark by a code that has no left-right symmetry, and is far larger than what blur, noise and JPEG
spoil: brightness survives all augmentation, a target that did not move with its image does not.
"""
import numpy as np

SIDE, FIELDS = 16, 4            # points a side of the ordered grid, fields a side of the code
DARK, BETWEEN, BRIGHT = 50, 120, 190
#: (4, 4) bool; neither it nor any of its rows is the mirror image of itself
CODE = np.array([[1, 0, 0, 0], [1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 1, 0]], bool)
_STEP = np.arange(SIDE)
#: (256,) bool: grid points that lie well inside their field
INNER = np.outer(*[np.isin(_STEP % FIELDS, (1, 2))] * 2).ravel()


def grid_code(mirrored: bool = False) -> np.ndarray:
    """(256,) bool: whether each point of the 16x16 grid lies on a bright field; mirrored: of a mirrored image, in
    which point (r, c) is what (r, 15 - c) was."""
    code = np.kron(CODE, np.ones((SIDE // FIELDS,) * 2, bool))
    return (code[:, ::-1] if mirrored else code).ravel()


def field_of(across: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points in [0, 1] of the coded square -> (bright, well inside a field), bool of their shape; outside: neither."""
    column, row = FIELDS * np.asarray(across, float), FIELDS * np.asarray(down, float)
    inside = (column > 0) & (column < FIELDS) & (row > 0) & (row < FIELDS)
    x, y = (np.clip(v.astype(int), 0, FIELDS - 1) for v in (np.nan_to_num(column), np.nan_to_num(row)))
    deep = inside & (np.abs(column % 1 - 0.5) < 0.22) & (np.abs(row % 1 - 0.5) < 0.22)
    return inside & CODE[y, x], deep


def painted(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Where each pixel (S, S) lies in the coded square, beyond [0, 1] off it -> (S, S, 3) uint8 grey image."""
    bright, _ = field_of(across, down)
    inside = (across > 0) & (across < 1) & (down > 0) & (down < 1)
    return np.repeat(np.where(inside, np.where(bright, BRIGHT, DARK), BETWEEN)[..., None], 3, -1).astype(np.uint8)


def code_accuracy(values: np.ndarray, bright: np.ndarray) -> float:
    """Fraction of the values (N, ...) that lie on the side of their medians' middle on which their code (N,) says."""
    values = np.asarray(values, float).reshape(len(values), -1).mean(-1)
    high, low = np.median(values[bright]), np.median(values[~bright])
    return float(np.mean((values > (high + low) / 2) == bright)) if high > low else 0.0


def pixels(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The pixels (K, C) of an image (H, W, C) in which points (K, 2) lie; the first pixel's centre is (0.5, 0.5)."""
    column, row = np.floor(points).astype(int).T
    return image[row, column]


class ImageSource:
    """A stand-in for shards: `arrays` of (subjects, ...) or (subjects, images, ...), by name."""

    path, names = "made", ("uv", "mask", "visible_mask", "depth")

    def __init__(self, **arrays: np.ndarray) -> None:
        self.arrays = arrays
        self.subjects = np.arange(len(arrays["images"]))
        self.images, self.size = arrays["images"].shape[1:3]

    def __len__(self) -> int:
        return len(self.subjects)

    def gather(self, name: str, subjects: np.ndarray, images: np.ndarray | None = None) -> np.ndarray:
        """As `Dataset.synthesis.shards.Shards.gather`."""
        rows = self.arrays[name][np.asarray(subjects)]
        if images is None:
            return rows.copy()
        images = np.asarray(images)
        subjects = np.broadcast_to(np.asarray(subjects).reshape(-1, *[1] * (images.ndim - 1)), images.shape)
        return self.arrays[name][subjects, images].copy()
