"""Dataset/sources/texas3d.py, Dataset/sources/depth_pairs.py, Datagenerator/sequences/depth_pairs.py: a small database
of the same names."""
import csv
import shutil

import cv2
import numpy as np
import pytest

from Datagenerator.evaluation_data import depths_of
from Datagenerator.loading.epoch import Shard
from Datagenerator.loading.pipeline import make_pipeline
from Datagenerator.sequences.depth_pairs import PairConfig, PairSequence, pair_sequences
from Datagenerator.source import open_source
from Dataset.io.images import read_image, scaled, write_image
from Dataset.io.mesh_io import read_points
from Dataset.representations.depth import DISTANCE, RANGE, DepthRange, assumed_camera, decode, decode_depth
from Dataset.sources.depth_pairs import pairs, published_test, read_depth_image, read_pair
from Dataset.sources.subjects import dataset_info, list_subjects, read_split, subjects_of, write_split
from Dataset.sources.texas3d import main, resize_levels
from Dataset.sources.validate import validate
from Evaluation.reports.depth import depth_table
from tests.texas3d_files import FAR, LEVEL, PIXEL, depth_of, write_database, write_pair

FLAGS = ("--size", "64", "--points", "500", "--pixel", str(PIXEL), "--level", str(LEVEL), "--held-out", "2")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(source, converted folder); read only."""
    base = tmp_path_factory.mktemp("texas")
    write_database(base / "source")
    assert main([str(base / "source"), str(base / "out"), *FLAGS]) == 0
    return base / "source", base / "out"


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_subject_folders(made):
    source, out = made
    assert validate(out).problems == [] and not (out / ".work").exists()
    info = dataset_info(out)
    assert (info.source, info.points, info.image_size, info.settings["depth"]) == ("texas3d", 500, 64, True)
    subjects = list_subjects(out)
    assert [p.name for p in subjects] == ["T001", "T002", "T003", "T004", "T005", "T006"]
    assert [len(p.images) for p in subjects] == [3, 2, 3, 2, 3, 2] == [len(p.depths) for p in subjects]
    split = read_split(out)
    assert [len(names) for names in split[:3]] == [2, 2, 2] and len(set(sum(split[:3], []))) == 6
    groups = subjects_of(out)
    assert len(groups["training"]) == 4 and len(groups["test"]) == 2
    rows = list(csv.DictReader((out / "report.csv").open()))
    assert len(rows) == 15 and {row["status"] for row in rows} == {"used"}
    assert rows[4] == {"file": "Made_002_0001_Portrait.png", "subject": "T002", "status": "used",
                       "reason": "T002/001.jpg"}


@pytest.mark.parametrize("square", ["padded", "squeezed"])
def test_images_are_shrunk_and_the_truth_lies_on_the_face(square, made, tmp_path):
    source, out = made
    if square == "squeezed":
        out = tmp_path / "out"
        assert main([str(source), str(out), *FLAGS, "--square", "squeezed"]) == 0
        assert not {"side", "depth_range"} & set(dataset_info(out).settings)
    portrait = read_image(source / "Made_003_0000_Portrait.png")
    levels = read_depth_image(source / "Made_003_0000_Range.png")
    if square == "padded":          # 100 x 150 px: 25 columns on either side
        portrait, levels = np.pad(portrait, ((0, 0), (25, 25), (0, 0)), "edge"), np.pad(levels, ((0, 0), (25, 25)))
    stored = read_image(out / "T003/000.jpg").astype(int)
    assert np.abs(stored - cv2.resize(portrait, (64, 64), interpolation=cv2.INTER_AREA)).mean() < 2     # JPEG
    np.testing.assert_array_equal(read_depth_image(out / "T003/000.depth.png"), resize_levels(levels, 64))
    _, depth, _ = depth_of(3, 0)
    points = read_points(out / "T003/T003.ply")
    column, row = points[:, 0] / PIXEL + 50, 75 - points[:, 1] / PIXEL
    true_z = 255 * LEVEL - (depth - np.nanmin(depth))[row.astype(int), column.astype(int)]
    assert np.nanmedian(np.abs(points[:, 2] - true_z)) < 1.0 and np.isfinite(true_z).mean() > 0.9
    assert FAR > 0 and 120 < np.ptp(points[:, 1]) < 260


def test_what_a_perfect_network_says_has_the_faces_proportions(made):
    """Squeezed and by their own levels, faces came out 1.5 times as wide and 2 to 3 times as deep."""
    sequence = PairSequence(pairs(made[1]), PairConfig(batch_size=1, image_size=64), False)
    far = DepthRange(1e5, 1e5 + RANGE)              # these images have no perspective
    for index, pair in enumerate(sequence.pairs):
        _, true, _ = depth_of(int(pair.subject[1:]), int(pair.image.stem))
        rows, columns = np.nonzero(np.isfinite(true))
        true = np.array([np.ptp(columns) * PIXEL, np.ptp(rows) * PIXEL, np.ptp(true[rows, columns])])
        values = sequence.batch(0, index)[1]["depth"][0]
        for limits, tolerance in ((far, 0.05), (DepthRange(DISTANCE, DISTANCE + RANGE), 0.12)):
            found = np.ptp(decode(decode_depth(values, limits), assumed_camera(64, limits)).vertices, axis=0)
            # the unit of the guess is a side of 200 mm, these images show 240
            np.testing.assert_allclose(found[[0, 2]] / found[1], true[[0, 2]] / true[1], rtol=tolerance)
        np.testing.assert_allclose(found[1] * 240 / RANGE, true[1], rtol=0.12)


def test_a_jittered_face_is_deeper_as_it_is_larger(made):
    deep = []
    for jitter in (False, True):
        config = PairConfig(batch_size=1, image_size=64, jitter=jitter, mirror=False)
        depth = PairSequence(pairs(made[1])[:1], config, True).batch(0, 0)[1]["depth"]
        deep.append(np.ptp(depth[depth > -1]))
    assert deep[1] == pytest.approx(deep[0] * 286 / 256, rel=0.05)


def test_a_training_cuts_photos_as_the_images_show_faces(made):
    with open_source(str(made[1]), "train-test", PairConfig(image_size=64)) as source:
        assert source.model == {"crop_margin": pytest.approx(1.15 * 240 / 200)}
    images, maps = next(depths_of(made[1], 64, 1)())
    assert maps["side"] == 240 and len(images) == 1
    table = depth_table(depths_of(made[1], 64, 1), lambda x: np.full((len(x), 64, 64, 1), -1.0), "nothing")
    metrics = {row[0]: row for row in table.rows}
    assert metrics["coverage"][1] == 0 and metrics["mae"][2] > 1


def test_levels_are_averaged_over_the_face_alone():
    levels = np.array([[0, 0, 200, 100], [0, 90, 100, 100], [0, 0, 0, 9], [0, 0, 0, 11]], np.uint8)
    #   one of four pixels is face: none; all four; none; half, whose mean is theirs and not with the 0 beside them
    np.testing.assert_array_equal(resize_levels(levels, 2), [[0, 125], [0, 10]])
    np.testing.assert_array_equal(resize_levels(levels, 4), levels)


def test_same_command_same_bytes_and_after_a_kill(made, tmp_path):
    source, out = made
    whole = everything(out)
    again = tmp_path / "again"
    shutil.copytree(out, again)
    info = (again / "dataset.json").read_text().replace('"complete": true', '"complete": false')
    (again / "dataset.json").write_text(info)
    shutil.rmtree(again / "T004")
    (again / "T005/001.depth.png").unlink()
    (again / ".work/T004").mkdir(parents=True)
    (again / ".work/T004/000.jpg").write_bytes(b"half")
    with pytest.raises(ValueError, match="conversion is unfinished"):
        list_subjects(again)
    assert main([str(source), str(again), *FLAGS, "--workers", "2"]) == 0
    assert everything(again) == whole


def test_refusals_are_listed(made, tmp_path, capsys, caplog):
    source = tmp_path / "source"
    shutil.copytree(made[0], source)
    (source / "Made_001_0000_Range.png").unlink()
    (source / "Made_002_0000_Portrait.png").write_bytes((source / "Made_002_0000_Portrait.png").read_bytes()[:900])
    write_image(source / "Made_003_0000_Range.png", np.full((75, 50), 9, np.uint8))
    write_image(source / "Made_004_0000_Range.png", np.zeros((150, 100), np.uint8))
    write_image(source / "Made_005_0000_Range.png", np.random.default_rng(0).integers(0, 9, (150, 100, 3), np.uint8))
    for ending in ("Portrait", "Range"):
        shutil.copy(source / f"Made_006_0000_{ending}.png", source / f"Made_6_0000_{ending}.png")
        write_image(source / f"Made_007_0000_{ending}.png", np.full((75, 50), 9, np.uint8))
    (source / "Made_008_0000_Portrait.png").write_bytes(b"no image")
    (source / "Made_008_0000_Range.png").write_bytes(b"")
    (source / "sheet.png").write_bytes(b"x")
    (source / "readme.txt").write_text("of no concern")
    out = tmp_path / "out"
    assert main([str(source), str(out), *FLAGS]) == 0
    assert "6 subjects, 10 pairs; 10 files or pairs refused" in capsys.readouterr().out
    assert validate(out).problems == []
    reasons = {row["file"]: row["reason"] for row in csv.DictReader((out / "report.csv").open())
               if row["status"] == "refused"}
    for file, words in (("Made_001_0000_Portrait.png", "its partner Made_001_0000_Range.png is missing"),
                        ("Made_002_0000_Portrait.png", "cut off or broken"),
                        ("Made_003_0000_Portrait.png", "must be of one size, they are 100x150 and 50x75"),
                        ("Made_004_0000_Portrait.png", "must show something, this is all 0"),
                        ("Made_005_0000_Portrait.png", "must be grey, this is coloured"),
                        ("Made_6_0000_Portrait.png", "must be a number of 3 digits"),
                        ("Made_6_0000_Range.png", "must be a number of 3 digits"),
                        ("Made_007_0000_Portrait.png", "must be 100x150 as most here, is 50x75"),
                        ("Made_008_0000_Portrait.png", "header can be read"),
                        ("sheet.png", "must end in _Portrait.png or _Range.png")):
        reason = reasons.pop(file)
        assert words in reason and not reason.startswith(file) and str(tmp_path) not in reason
    assert list(reasons) == []
    assert sum(record.levelname == "WARNING" for record in caplog.records) >= 10


def refused(argv, capsys):
    assert main([str(a) for a in argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def test_bad_input_is_one_line_and_exit_2(made, tmp_path, capsys):
    source, out = made
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no such folder" in refused([tmp_path / "none", tmp_path / "o"], capsys)
    assert "holds no usable pair" in refused([empty, tmp_path / "o"], capsys)
    (empty / "a_001_Portrait.png").write_bytes(b"")
    assert "its partner a_001_Range.png is missing" in refused([empty, tmp_path / "o"], capsys)
    assert not (tmp_path / "o").exists()
    assert "it holds something else" in refused([source, source], capsys)
    assert "begun with image_size 64, now it is 32" in refused([source, out, *FLAGS, "--size", "32"], capsys)
    assert "--size must be within 16 to 1024, got 8" in refused([source, tmp_path / "o", "--size", "8"], capsys)
    write_pair(empty, 2)
    write_image(empty / "Made_002_0000_Range.png", np.zeros((150, 100), np.uint8))
    message = refused([empty, tmp_path / "o"], capsys)
    assert "no pair could be read" in message and (tmp_path / "o/report.csv").is_file()
    with pytest.raises(ValueError, match="unfinished"):
        list_subjects(tmp_path / "o")


def test_a_subject_has_depth_for_all_images_or_none(made, tmp_path):
    shutil.copytree(made[1] / "T001", tmp_path / "d/T001")
    (tmp_path / "d/T001/001.depth.png").unlink()
    with pytest.raises(ValueError, match="must belong to all images or to none, got 2 of 3"):
        list_subjects(tmp_path / "d")
    write_image(tmp_path / "d/T001/001.depth.png", np.zeros((64, 64), np.uint8))
    assert "must show something" in validate(tmp_path / "d").problems[0]


def test_both_splits(made):
    out = made[1]
    for split in ("subject", "published"):
        training, test = (pairs(out, use, split) for use in ("training", "test"))
        validation = pairs(out, "validation", split)
        assert not set(training) & set(test) and not set(training) & set(validation)
        if split == "subject":       # a checkpoint that was chosen on the test subjects would flatter itself
            subjects = [{p.subject for p in part} for part in (training, validation, test)]
            assert [len(names) for names in subjects] == [2, 2, 2] and len(set.union(*subjects)) == 6
            assert len(training) + len(validation) + len(test) == 15
        else:
            assert len(test) == 3 and len(training) == 12 and validation == test        # 15 * 230 / 1149
    assert pairs(out) == pairs(out, "training", "subject")
    assert len(published_test(1149, 0)) == 230 and max(published_test(1149, 0)) < 1149
    assert published_test(1149, 0) == published_test(1149, 0) != published_test(1149, 1)
    with pytest.raises(ValueError, match="pairs are of training, validation, test by subject or published, got 'all'"):
        pairs(out, "all")


def test_a_split_without_subjects_for_validation(made, tmp_path):
    """Of few subjects there is nobody left: the test subjects choose, as in the thesis's split."""
    shutil.copytree(made[1], tmp_path / "d")
    split = read_split(tmp_path / "d")
    write_split(tmp_path / "d", split._replace(training=split.training + split.validation, validation=[]))
    assert pairs(tmp_path / "d", "validation") == pairs(tmp_path / "d", "test")
    assert {pair.subject for pair in pairs(tmp_path / "d", "test")} == set(split.test)
    assert len({pair.subject for pair in pairs(tmp_path / "d")}) == 4


def test_pairs_that_cannot_be_used(made, tmp_path):
    shutil.copytree(made[1], tmp_path / "d")
    pair = pairs(tmp_path / "d")[0]
    write_image(pair.depth, np.full((32, 32), 7, np.uint8))
    with pytest.raises(ValueError, match=r"depth image has its image's size 64x64, this has 32x32"):
        read_pair(pair)
    for path in (tmp_path / "d").rglob("*.depth.png"):
        path.unlink()
    with pytest.raises(ValueError, match="holds no depth images"):
        pairs(tmp_path / "d")


def test_sequence(made):
    config = PairConfig(batch_size=4, image_size=64)
    training, validation = pair_sequences(made[1], config)
    x, y = validation.batch(0, 0)
    image, levels = read_pair(validation.pairs[1])
    np.testing.assert_array_equal(x[1], scaled(image, "unit"))
    depth_range = 255 * LEVEL / 240                                           # 100 x 150 pixels of 1.6 mm, made square
    wanted = np.where(levels > 0, 1 - depth_range * (2 - levels / 127.5), -1)
    np.testing.assert_allclose(y["depth"][1, ..., 0], wanted, atol=1e-6)
    assert x.shape[1:] == training.shapes[0][1:] and y["depth"].shape[1:] == training.shapes[1]["depth"][1:]
    assert x.dtype == y["depth"].dtype == np.float32 and len(training) == -(-len(training.pairs) // 4)
    assert sorted(training.order(3)) == list(range(len(training.pairs))) and list(training.order(3)) \
        != list(training.order(4))
    first, again, other = training.batch(1, 0), training.batch(1, 0), training.batch(2, 0)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1]["depth"], again[1]["depth"])
    assert not np.array_equal(first[0], other[0]) and (first[1]["depth"] == -1).any() and first[1]["depth"].max() > 0.98
    parts = [training.batch(1, 0, Shard(k, 2)) for k in range(2)]
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), first[0])
    piped = list(make_pipeline(training, 1, workers=2))
    assert len(piped) == len(training)
    np.testing.assert_array_equal(np.asarray(piped[0][1]["depth"]), first[1]["depth"])


def test_image_and_depth_move_together(made):
    """The face's outline in the image (all but black around) stays that of the depth."""
    plain = PairSequence(pairs(made[1]), PairConfig(batch_size=1, image_size=64, jitter=False, mirror=False), True)
    moved = PairSequence(pairs(made[1]), PairConfig(batch_size=1, image_size=64), True)
    for index in range(4):
        for sequence in (plain, moved):
            x, y = sequence.batch(0, index)
            face = y["depth"][0, ..., 0] > -1
            assert (face == (x[0].max(-1) > 0.25)).mean() > 0.93
    assert not np.array_equal(plain.batch(0, 0)[1]["depth"], moved.batch(0, 0)[1]["depth"])


def test_sequence_refuses(made):
    with pytest.raises(ValueError, match="needs at least one"):
        PairSequence([], PairConfig(), True)
    with pytest.raises(ValueError, match=r"must be 256x256 pixels \(image_size\), this is 64x64"):
        PairSequence(pairs(made[1]), PairConfig(), False).batch(0, 0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        PairConfig(batch_size=0)
    with pytest.raises(ValueError, match="batch_size 3 must be a multiple of 2 workers x 1 replicas"):
        PairSequence(pairs(made[1]), PairConfig(batch_size=3), True).check_shard(Shard(0, 2))
