"""Evaluation/web/viewer.py and epoch_images.py: a run as one page; its images bounded, its words never code."""
import base64
import hashlib
import html
import json
import logging
import re

import cv2
import numpy as np
import pytest

from Evaluation.views.epoch_images import TILE, EpochImages, sample_images, point_images, save_epoch_images
from Evaluation.web import viewer
from Evaluation.web.viewer import main, page, read_run, summary, write_page
from tests.browser import browser, console, wait
from tests.clouds import face

HISTORY = """epoch,loss,val_loss,learning_rate,updates,seconds,val_shape
1,0.5,0.625,0.001,10,30.0,
2,0.25,0.375,0.001,20,31.5,0.125
3,0.125,nan,0.0005,30,60.0,0.0625
"""
ATTACK = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"


def flat(value: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "first run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({
        "network": "convlstm", "preset": "quick", "data_folder": "faces", "model": {"images": None, "filters": [3, 4]},
        "train": {"choose_by": "shape", "epochs": 3}}))
    (folder / "history.csv").write_text(HISTORY)
    np.savez(folder / "state.npz", **{"model/0000": np.zeros((3, 4)), "model/0001": np.zeros(5),
                                      "optimizer/0000": np.zeros(99)})
    for epoch in (1, 2, 3):
        save_epoch_images(folder, epoch, {"anna": flat(20 * epoch), "bert": flat(100 + 20 * epoch)})
    return folder


def data_of(text: str) -> dict:
    return json.loads(re.search(r'id="run">(.*?)</script>', text, re.S)[1])


def images_of(text: str) -> list[dict]:
    return [json.loads(found) for found in re.findall(r'id="epoch-\d+">(.*?)</script>', text, re.S)]


def test_images_lie_where_the_contract_says(tmp_path):
    paths = save_epoch_images(tmp_path, 7, {"one": flat(90), "a b-2.c": flat(30)})
    assert [str(p.relative_to(tmp_path)) for p in paths] == ["epochs/0007/one.jpg", "epochs/0007/a b-2.c.jpg"]
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(paths)
    assert np.abs(cv2.imread(str(paths[0])).astype(int) - 90).max() <= 2


def test_a_large_image_is_made_smaller_in_its_shape(tmp_path):
    path, = save_epoch_images(tmp_path, 1, {"wide": flat(90, (600, 3000))})
    assert cv2.imread(str(path)).shape == (205, 1024, 3)


@pytest.mark.parametrize("images, message", [
    ({"../up": flat(1)}, "an image's name has 1 to 64 letters"), ({"": flat(1)}, "an image's name"),
    ({f"n{i}": flat(1) for i in range(33)}, "at most 32 images, got 33"),
    ({"<b>": flat(1)}, "an image's name")])
def test_names_and_number_are_bounded_before_anything_is_written(tmp_path, images, message):
    with pytest.raises(ValueError, match=message):
        save_epoch_images(tmp_path, 1, {"good": flat(1), **images} if len(images) == 1 else images)
    assert not list(tmp_path.iterdir())


def test_the_hook_saves_and_never_ends_a_training(tmp_path, caplog):
    hook = EpochImages(tmp_path, lambda: {"a": flat(50)}, every=2)
    for epoch in (1, 2, 3, 4):
        hook([{"epoch": 1}, {"epoch": epoch}])
    assert sorted(p.name for p in (tmp_path / "epochs").iterdir()) == ["0001", "0002", "0004"]
    with caplog.at_level(logging.WARNING):
        EpochImages(tmp_path, lambda: {"a/b": flat(50)})([{"epoch": 9}])
    assert "no images of epoch 9" in caplog.text and not (tmp_path / "epochs" / "0009").exists()
    for error in (cv2.error("(-215:Assertion failed)"), RuntimeError("graph execution error"), IndexError("5")):
        def images(error=error):
            raise error
        caplog.clear()
        EpochImages(tmp_path, images)([{"epoch": 9}])
        assert f"no images of epoch 9: {type(error).__name__}: {error}" in caplog.text


def test_epoch_images_show_input_truth_and_prediction():
    truth = face(900)
    images = np.stack([[flat(0, (40, 40)), flat(200, (40, 40))]] * 2)
    flatter = truth * (1.0, 1.0, 0.3)
    rows = point_images(images, np.stack([truth, flatter]), np.stack([truth, truth]), ["same", "flat"])
    assert rows["same"].shape == (TILE + 20, 5 * TILE, 3) and rows["same"].dtype == np.uint8
    for name, equal in (("same", True), ("flat", False)):
        tiles = np.split(rows[name][20:], 5, axis=1)
        assert (tiles[0] == 200).all()                      # the last photo
        assert (tiles[3] == tiles[4]).all() == equal        # truth and prediction from three-quarter
        assert (tiles[1] != tiles[3]).any()                 # two sides
    tuned = point_images(images[:1].astype(np.float32) / 255, truth[None], truth[None], ["same"])
    np.testing.assert_array_equal(tuned["same"], rows["same"])


def test_images_of_a_batch_of_points():
    truth = face(400)
    images, targets = np.zeros((3, 2, 8, 8, 3), np.float32), np.stack([truth] * 3)
    plain = sample_images((images, targets), targets, count=2)
    assert list(plain) == ["sample 1", "sample 2"]


def test_images_of_maps_take_the_channels_in_the_targets_order():
    uv = np.zeros((1, 8, 8, 2)) + (1.0, 0.4)
    uv[:, :, :4] = np.nan
    targets = {"uv": uv, "mask": np.ones((1, 8, 8, 1)), "eroded": np.ones((1, 8, 8, 1))}
    output = np.zeros((1, 8, 8, 3)) + (0.2, 0.6, 2.0)
    row, = sample_images((np.full((1, 8, 8, 3), 0.5), targets), output).values()
    middles = [tile[TILE // 2, TILE * 3 // 4].tolist() for tile in np.split(row[20:], row.shape[1] // TILE, axis=1)]
    # input; u, v as red, green: truth, prediction; mask: the same (cut off at 1); no channel is left for eroded
    assert middles == [[128] * 3, [0, 102, 255], [0, 153, 51], [255] * 3, [255] * 3]
    assert row[20 + TILE // 2, TILE * 5 // 4].tolist() == [0, 0, 0]          # NaN: nothing there
    # six channels for four: what is left is a log-variance, not the eroded mask, which only weighs the loss
    six = np.concatenate([output, np.ones((1, 8, 8, 1)), np.full((1, 8, 8, 2), 2 * np.log(0.02))], -1)
    six[:, :, :4, 2] = 0
    more = {"uv": uv, "mask": targets["mask"], "visible_mask": targets["mask"], "landmarks": np.zeros((1, 68, 2)),
            "eroded": targets["mask"]}
    wide, = sample_images((np.zeros((1, 8, 8, 3)), more), six).values()
    assert wide.shape[1] == 8 * TILE                                        # input, three pairs, the uncertainty
    uncertainty = wide[20 + TILE // 2, 7 * TILE:]
    assert uncertainty[TILE * 3 // 4].tolist() == [51] * 3 and uncertainty[TILE // 4].tolist() == [0] * 3
    depth, = sample_images((np.zeros((1, 8, 8, 3)), {"depth": np.full((1, 8, 8, 1), -1.0)}),
                           np.zeros((1, 8, 8, 1))).values()
    assert depth[100, TILE + 50].tolist() == [0] * 3 and depth[100, 2 * TILE + 50].tolist() == [128] * 3


def test_the_page_holds_every_number_and_every_image(run):
    text = write_page(run).read_text()
    data = data_of(text)
    assert data["columns"][:3] == ["epoch", "loss", "val_loss"] and data["metric"] == "val_shape"
    assert data["history"][0][-1] is None and data["history"][1][-1] == 0.125 and data["history"][2][2] is None
    assert data["config"]["model"] == {"images": None, "filters": [3, 4]}
    assert data["epochs"] == [1, 2, 3] and data["names"] == ["anna", "bert"]
    for epoch, images in zip((1, 2, 3), images_of(text)):
        for name, content in images.items():
            assert base64.b64decode(content) == (run / "epochs" / f"{epoch:04d}" / f"{name}.jpg").read_bytes()
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)         # asks no other machine


def test_summary_counts_by_hand(run):
    facts = dict(summary(read_run(run)))
    assert facts["Weights and statistics"] == "17" and facts["Epochs"] == "3"
    assert facts["Time"] == "0 h 2 min 2 s" and facts["Updates"] == "30 (0.247 a second)"
    assert facts["Training loss, mean of the last 10"] == "0.291667"
    assert facts["Validation loss, the same"] == "0.5" and facts["Best validation loss"] == "0.375 (epoch 2)"


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    (tmp_path / "config.json").write_text('{"network": "convlstm", "rate": NaN}')
    data = data_of(write_page(tmp_path, tmp_path / "deep" / "page.html").read_text())
    assert data["history"] == data["epochs"] == [] and data["config"]["rate"] == "nan"


def test_words_of_a_run_are_never_code(tmp_path):
    folder = tmp_path / "a<b onload=x>&"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"network": ATTACK, ATTACK: {"deep": [ATTACK, "{{script}}"]}}))
    (folder / "history.csv").write_text(f'epoch,loss,"{ATTACK}"\n1,2,3\n')
    text = write_page(folder).read_text()
    assert "<img src=x" not in text and "<b onload" not in text and "&lt;b onload" in text
    assert text.count("<script") == text.count("</script>") == 2             # the data, our own script
    assert data_of(text)["config"][ATTACK]["deep"] == [ATTACK, "{{script}}"]
    policy = html.unescape(re.search(r'Policy" content="(.*?)"', text)[1])
    for kind in ("script", "style"):
        inside = re.search(rf"<{kind}>(.*?)</{kind}>", text, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy and "default-src 'none'" in policy


def test_a_page_too_large_leaves_out_epochs_evenly(run, monkeypatch):
    for epoch in range(4, 12):
        save_epoch_images(run, epoch, {"anna": flat(10 * epoch), "bert": flat(10 * epoch)})
    one = sum(4 * (p.stat().st_size + 2) // 3 for p in (run / "epochs" / "0001").iterdir())
    monkeypatch.setattr(viewer, "MAX_PAGE", int(6.5 * one))
    found = read_run(run)
    assert list(found.epochs) == [1, 3, 5, 7, 9, 11]
    assert found.notes == ["Of 11 epochs with images 6 are on this page, which would be too large with all of them."]
    monkeypatch.setattr(viewer, "MAX_PAGE", 10)
    assert list(read_run(run).epochs) == [11]


def test_broken_images_are_left_out_and_said(run):
    (run / "epochs" / "0002" / "bert.jpg").write_bytes(b"\xff\xd8 no")
    (run / "epochs" / "0003" / "anna.jpg").write_bytes(b"<script>")
    (run / "epochs" / "notes").mkdir()
    found = read_run(run)
    assert {e: sorted(names) for e, names in found.epochs.items()} == {1: ["anna", "bert"], 2: ["anna"], 3: ["bert"]}
    assert found.notes == ["2 images are broken, too large or too many, and left out."]
    assert page(found)


@pytest.mark.parametrize("name, content, message", [
    ("config.json", None, "is no run folder: config.json is missing"),
    ("config.json", "{", "config.json: is no JSON"),
    ("config.json", "[1]", "config.json: must hold a JSON object, received list"),
    ("config.json", "[" * 2000 + "]" * 2000, "config.json: JSON may be nested 64 deep"),
    ("config.json", '{"a":' * 700 + "1" + "}" * 700, "config.json: JSON may be nested 64 deep"),
    ("config.json", " " * 2**20 + "{}", "config.json: may have at most 1048576 bytes"),
    ("history.csv", "epoch,loss\n1,x\n", "history.csv: holds something else than numbers"),
    ("history.csv", "epoch,loss\n1\n", "every row must have the header's 2 columns, one has 1"),
    ("history.csv", "epoch,loss\n,1\n", "every row needs the number of its epoch")])
def test_bad_runs_are_one_line_exit_2_and_no_page(run, capsys, name, content, message):
    (run / name).unlink() if content is None else (run / name).write_text(content)
    assert main([str(run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Evaluation.web.viewer: ") and message in error and len(error.splitlines()) == 1
    assert not (run / "index.html").exists()


def test_no_such_folder(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2 and "nowhere: is no run folder" in capsys.readouterr().err


def test_in_chromium_the_slider_moves_and_the_image_changes(run, tmp_path):
    main([str(run)])
    with browser(tmp_path) as driver:
        driver.get((run / "index.html").as_uri())
        wait(driver, "document.getElementById('picture').naturalWidth === 32")

        def shown() -> bytes:
            wait(driver, "document.getElementById('picture').complete")
            source = driver.execute_script("return document.getElementById('picture').src")
            return base64.b64decode(source.split(",")[1])

        def image(epoch: int, name: str) -> bytes:
            return (run / "epochs" / f"{epoch:04d}" / f"{name}.jpg").read_bytes()

        def caption(text: str) -> None:
            wait(driver, "document.getElementById('caption').textContent === arguments[0]", text)
        caption("anna after epoch 3")
        assert shown() == image(3, "anna")
        # while a slider moves nothing is loaded; when it rests the image comes
        now = driver.execute_script(
            "const e = document.getElementById('epoch'); e.value = 0; e.dispatchEvent(new Event('input'));"
            "return ['epoch-label', 'caption'].map(id => document.getElementById(id).textContent)")
        assert now == ["1", "anna after epoch 3"]
        caption("anna after epoch 1")
        assert shown() == image(1, "anna")
        driver.find_element("id", "epoch").send_keys("\ue014")              # right arrow on the slider itself
        caption("anna after epoch 2")
        driver.find_element("id", "pictures").send_keys("\ue015")           # down, with the images in focus
        caption("bert after epoch 2")
        assert shown() == image(2, "bert")
        driver.find_element("tag name", "body").send_keys("\ue014")         # right, anywhere
        caption("bert after epoch 3")
        driver.find_element("id", "keep").click()
        driver.find_element("tag name", "body").send_keys("\ue012")         # left
        caption("bert after epoch 2")
        assert driver.find_element("id", "kept-caption").text == "kept: bert after epoch 3"
        # exact values of the epoch shown, and of the one under the pointer
        assert driver.find_element("id", "loss-values").text == "epoch 2: training 0.25, validation 0.375"
        assert driver.find_element("id", "metric-values").text == "epoch 2: val_shape 0.125"
        from selenium.webdriver import ActionChains
        chart = driver.find_element("id", "loss")
        ActionChains(driver).move_to_element_with_offset(chart, chart.size["width"] // 2 - 12, 0).perform()
        assert driver.find_element("id", "loss-values").text == "epoch 3: training 0.125, validation none"
        driver.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        wait(driver, "document.getElementById('parameters').textContent.includes('choose_by')")
        wait(driver, "document.querySelectorAll('#numbers tr').length === 4")
        assert console(driver) == []


def test_in_chromium_an_attack_is_shown_as_words(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"network": ATTACK, ATTACK: ATTACK}))
    (tmp_path / "history.csv").write_text(f'epoch,loss,"{ATTACK}"\n1,2,3\n')
    main([str(tmp_path)])
    with browser(tmp_path) as driver:
        driver.get((tmp_path / "index.html").as_uri())
        driver.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        wait(driver, "document.getElementById('parameters').textContent.includes('hacked')")
        assert driver.execute_script("return window.hacked") is None
        assert ATTACK in driver.find_element("id", "summary").get_property("textContent")
        assert console(driver) == []


def test_a_network_that_ends_at_keypoints_is_drawn_too():
    rng = np.random.default_rng(0)
    images, targets = rng.random((2, 3, 32, 32, 3), np.float32), {"keypoints": np.full((2, 3, 4, 2), 0.5)}
    output = {"keypoints": np.array([[0.25, 0.75]] * 4, np.float32) * np.ones((2, 3, 4, 2), np.float32)}
    rows = sample_images((images, targets), output)
    assert sorted(rows) == ["sample 1", "sample 2"] and rows["sample 1"].dtype == np.uint8
    side = rows["sample 1"].shape[1] // 3
    top = len(rows["sample 1"]) - side
    truth, found = rows["sample 1"][top:, side:2 * side], rows["sample 1"][top:, 2 * side:]
    assert tuple(truth[side // 2, side // 2]) == tuple(found[3 * side // 4, side // 4]) == (80, 230, 80)
    assert tuple(truth[3 * side // 4, side // 4]) != (80, 230, 80)
