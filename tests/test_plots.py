"""Evaluation/figures/plots.py: the files are whole PNGs that show what was given; matplotlib's state is left alone."""
import subprocess
import sys

import cv2
import numpy as np
import pytest

from Evaluation.figures.plots import (GREY, plot_error_map, plot_heat_maps, plot_losses, plot_sample, plot_strip,
                                      to_rgb)
from tests.clouds import face

GREEN = np.zeros((40, 40, 3), np.uint8) + np.array([0, 200, 0], np.uint8)
BLUE = np.zeros((30, 60, 3), np.uint8) + np.array([220, 0, 0], np.uint8)        # BGR


def colour_fraction(path, bgr, tolerance=12):
    image = cv2.imread(str(path)).astype(int)
    return (np.abs(image - bgr).max(axis=2) <= tolerance).mean()


def test_strip_shows_images_and_both_clouds(tmp_path):
    plot_strip([GREEN, GREEN.astype(np.float32) / 255, BLUE], face(700), face(800, 1), tmp_path / "strip.png", "F001")
    green, blue = (colour_fraction(tmp_path / "strip.png", bgr) for bgr in ([0, 200, 0], [220, 0, 0]))
    assert green > 2 * blue > 0.01


def test_error_map_puts_the_error_where_it_is(tmp_path):
    truth = face(side=40)
    wrong = truth.copy()
    dented = (np.abs(truth[:, 0] - 0.3) < 0.12) & (np.abs(truth[:, 1] + 0.35) < 0.12)
    wrong[dented, 2] += 0.2
    plot_error_map(wrong, truth, tmp_path / "map.png", ordered=True)
    image = cv2.imread(str(tmp_path / "map.png"))
    front = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)[40:, :image.shape[1] // 4].astype(int)
    rows, columns = np.nonzero((front[..., 0] < 12) & (front[..., 1] > 150))        # red: the largest errors
    shown = np.nonzero((front[..., 1] > 80))
    assert len(rows) > 20 and columns.mean() > shown[1].mean() + 10 and rows.mean() > shown[0].mean() + 10


def test_heat_maps_share_a_scale_and_leave_grey_what_is_unknown(tmp_path):
    points = face(side=24)
    low, high = np.full(len(points), 0.2), np.full(len(points), 1.0)
    unknown = np.where(points[:, 1] < 0, np.nan, 1.0)
    plot_heat_maps([("low", points, low), ("high", points, high), ("half", points, unknown)], tmp_path / "h.png", "mm")
    rows = np.array_split(cv2.imread(str(tmp_path / "h.png"))[:, :700], 3)
    red, grey = ([(np.abs(row.astype(int) - bgr).max(2) < 14).mean() for row in rows]
                 for bgr in ((4, 4, 122), GREY))                    # the scale's upper end
    assert red[0] < 0.01 < red[2] < 0.8 * red[1] and grey[2] > 0.02 > max(grey[:2])
    with pytest.raises(ValueError, match="want at least one value to draw"):
        plot_heat_maps([("none", points, np.full(len(points), np.nan))], tmp_path / "n.png", "mm")
    assert not (tmp_path / "n.png").exists()


def test_losses_of_a_csv_with_gaps(tmp_path):
    rows = [{"epoch": "1", "loss": "0.5", "val_loss": ""}, {"epoch": "2", "loss": "0.2", "val_loss": "0.4"}]
    plot_losses(rows, tmp_path / "loss.png")
    first = (tmp_path / "loss.png").read_bytes()
    assert colour_fraction(tmp_path / "loss.png", [168, 95, 31], 30) > 0.001          # the training line
    assert colour_fraction(tmp_path / "loss.png", [28, 99, 209], 30) > 1e-4           # the one validation point
    plot_losses(rows, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes() == first
    plot_losses([{"epoch": 1, "loss": float("nan"), "val_loss": float("nan")}], tmp_path / "nan.png")
    plot_losses([{"epoch": 1, "loss": 0.0, "val_loss": 0.0}], tmp_path / "zero.png")


def test_bad_input_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="want at least one epoch to plot, got none"):
        plot_losses([], tmp_path / "a.png")
    with pytest.raises(ValueError, match="want at least one image, got none"):
        plot_strip([], face(20), face(20), tmp_path / "a.png")
    with pytest.raises(ValueError, match="prediction: want finite"):
        plot_error_map(np.full((20, 3), np.nan), face(20), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_to_rgb():
    with pytest.raises(ValueError, match=r"image: want \(H, W, 3\) BGR, got shape \(4, 4, 2\)"):
        to_rgb(np.zeros((4, 4, 2), np.uint8))
    assert to_rgb(BLUE)[0, 0].tolist() == [0, 0, 220]
    assert to_rgb(np.full((2, 2), 0.5))[0, 0].tolist() == [128, 128, 128]


def test_importing_and_plotting_leave_matplotlib_alone(tmp_path):
    code = ("import sys; import Evaluation.figures.plots as p; assert 'matplotlib' not in sys.modules;"
            f"p.plot_losses([dict(epoch=1, loss=1., val_loss=2.)], {str(tmp_path / 'x.png')!r});"
            "assert 'matplotlib.pyplot' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_sample_gives_a_strip_and_an_error_map(tmp_path):
    """evaluate.py --figures: two PNGs under one stem, whose folder is made."""
    points = np.random.default_rng(0).normal(size=(64, 3))
    image = np.zeros((8, 8, 3), np.uint8)
    plot_sample([image], points, points + 0.1, str(tmp_path / "new" / "test_S000"), ordered=True)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["test_S000_error.png", "test_S000_strip.png"]
