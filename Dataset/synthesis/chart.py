"""The chart for textures: the mean face unrolled around a vertical axis through the head.

Every surface point is mapped by its position on the mean face (columns: azimuth, rows: height). So a mask is drawn
once, between the landmarks of the mean face, and fits every subject and expression. There is no UV seam in front, and
the texels have 0.6 mm at the cheeks.
"""
import cv2
import numpy as np

HEIGHT, WIDTH = 512, 1024         # texels


class Chart:
    """The mean face unrolled: maps points of the mean face to texels, and draws masks between its landmarks.

    Args: landmarks: (68, 3) of the mean face, mm; low, high: heights (mm) of the texture's last and first
    row.
    """

    def __init__(self, landmarks: np.ndarray, low: float, high: float):
        self.axis = float(landmarks[[0, 16], 2].mean())     # the ears' z: the front half lies before them
        self.low, self.high = float(low), float(high)
        self.radius = float(np.abs(landmarks[[0, 16], 0]).mean())
        self.marks = self.texels(landmarks)
        self.landmarks = landmarks

    def texels(self, points: np.ndarray) -> np.ndarray:
        """Points of the mean face (..., 3) to texels (..., 2): column, row (pixel centres at +0.5),
        float32."""
        x, y, z = np.moveaxis(np.asarray(points, np.float32), -1, 0)
        azimuth = np.arctan2(x, z - np.float32(self.axis))
        return np.stack([(azimuth / (2 * np.pi) + 0.5) * WIDTH, (self.high - y) / (self.high - self.low) * HEIGHT], -1)

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """azimuth (1, WIDTH) in radians and height (HEIGHT, 1) in mm of the texel centres."""
        azimuth = ((np.arange(WIDTH) + 0.5) / WIDTH - 0.5) * 2 * np.pi
        height = self.high - (np.arange(HEIGHT) + 0.5) / HEIGHT * (self.high - self.low)
        return azimuth[None].astype(np.float32), height[:, None].astype(np.float32)

    def hair_edge(self, azimuth: np.ndarray, lift: float = 0.0) -> np.ndarray:
        """The height (mm) above which hair grows at an azimuth; ``lift`` mm moves the line over the
        forehead."""
        brow, eye, nose, jaw = (float(self.landmarks[k, 1].mean()) for k in
                                (slice(17, 27), slice(36, 48), slice(31, 36), slice(4, 13)))
        degrees = [0, 22, 38, 50, 60, 68, 76, 84, 98, 108, 122, 140, 180]
        height = [brow + 47 + lift, brow + 46 + lift, brow + 38 + lift, brow + 18 + lift / 2, brow + 2, eye, nose + 6,
                  eye + 4, eye + 6, eye - 8, nose - 8, jaw + 26, jaw + 22]
        return np.interp(np.degrees(np.abs(azimuth)), degrees, height)

    def polygon(self, indices: list[int], blur: float = 0.0, grow: float = 0.0) -> np.ndarray:
        """A soft mask (HEIGHT, WIDTH) float32 in [0, 1] of the polygon through landmarks; blur, grow: in
        texels."""
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        points = self.marks[indices]
        if grow:
            centre = points.mean(0)
            away = points - centre
            points = points + grow * away / np.linalg.norm(away, axis=1, keepdims=True)
        cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
        return soften(mask, blur)

    def stroke(self, points: np.ndarray, width: int, blur: float = 0.0, closed: bool = False) -> np.ndarray:
        """A soft line (HEIGHT, WIDTH) float32 through texels (N, 2)."""
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.polylines(mask, [np.rint(points * 16).astype(np.int32)], closed, 255, width, cv2.LINE_AA, shift=4)
        return soften(mask, blur)

    def spot(self, centre: np.ndarray, sigma: tuple[float, float]) -> np.ndarray:
        """A Gaussian blob (HEIGHT, WIDTH) around a texel, sigma in texels (x, y)."""
        x = np.exp(-0.5 * ((np.arange(WIDTH) + 0.5 - centre[0]) / sigma[0]) ** 2)
        y = np.exp(-0.5 * ((np.arange(HEIGHT) + 0.5 - centre[1]) / sigma[1]) ** 2)
        return np.outer(y, x).astype(np.float32)


def sample_texture(texture: np.ndarray, texels: np.ndarray) -> np.ndarray:
    """Bilinear look-up of (H, W, C) float32 at texels (N, 2), wrapping round columns: (N, C)."""
    count = len(texels)
    if count == 0:
        return np.zeros((0, texture.shape[2]), np.float32)
    rows = -(-count // 4096)          # remap takes maps of up to 32767 columns: fold the list
    padded = np.zeros((rows * 4096, 2), np.float32)
    padded[:count] = texels - 0.5
    folded = padded.reshape(rows, 4096, 2)
    folded[..., 1] = np.clip(folded[..., 1], 0, texture.shape[0] - 1)
    out = cv2.remap(texture, folded, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return out.reshape(rows * 4096, -1)[:count]


def soften(mask: np.ndarray, blur: float) -> np.ndarray:
    """A uint8 mask as float32 in [0, 1], blurred by ``blur`` texels."""
    mask = mask.astype(np.float32) / 255
    return cv2.GaussianBlur(mask, (0, 0), blur) if blur else mask


def noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise of unit variance with ``cells`` cells around the head, (HEIGHT, WIDTH) float32."""
    coarse = rng.standard_normal((max(cells // 2, 2), cells), np.float32)
    if cells == WIDTH:
        return coarse
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
