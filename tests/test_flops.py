"""Network/inspection/flops.py: the thesis's 55.7 GFLOP, a count by hand, Table 1 row by row."""
import keras
import pytest

from Network.inspection import flops
from Network.layers.convlstm import FusedConvLSTM2D
from Network.mobile3model import Config, build, build_step
from tests.test_mobile3model import TINY, thesis_network


@pytest.fixture(scope="module")
def thesis() -> keras.Model:
    return thesis_network()


def test_flops_of_the_thesis(thesis):
    assert round(flops.flops(thesis, 8) / 1e9, 1) == 55.7
    assert round(flops.flops(thesis, 8, executed=True) / 1e9, 1) == 51.6
    # a new layer must not go uncounted
    x = keras.Input((4, 4, 2))
    with pytest.raises(ValueError, match="cannot count the operations of layer mystery, a PReLU"):
        flops.flops(keras.Model(x, keras.layers.PReLU(name="mystery")(x)))


def test_flops_by_hand():
    """One ConvLSTM of 2 filters on 4x4x3 at stride 2: 2x2 cells x 9 x (3 + 2) channels x 8 gates, 3 images, twice."""
    x = keras.Input((None, 4, 4, 3))
    model = keras.Model(x, FusedConvLSTM2D(2, 3, 2)(x))
    assert flops.flops(model, 3) == 2 * 3 * 4 * 9 * (3 + 2) * 8
    assert flops.flops(model, 3, executed=True) == 2 * 4 * 9 * (3 * 3 + 2 * 2) * 8


def test_the_decoders_blocks_run_once_however_many_images():
    """decoder_blocks=1: two 3x3 convolutions after each of 7 transposed ones, 1, 2, 4, 8, 16, 16, 16 pixels a side."""
    plain, deep = build(Config(**TINY)), build(Config(**TINY, decoder_blocks=1))
    sides, filters = (1, 2, 4, 8, 16, 16, 16), (8, 8, 6, 6, 5, 4, 3)
    blocks = sum(2 * 2 * side ** 2 * 9 * count ** 2 for side, count in zip(sides, filters))
    assert blocks == 576_000
    for images in (1, 5):
        assert flops.flops(deep, images) - flops.flops(plain, images) == blocks


TABLE_1 = """
8x256x256x3   | ConvLSTM2D             | - | 3 | 2 | 8x128x128x32
8x128x128x32  | Inverted Residual      | Y | 3 | 1 | 8x128x128x16
8x128x128x16  | ConvLSTM2D             | - | 3 | 2 | 8x64x64x24
8x64x64x24    | ConvLSTM2D             | - | 3 | 2 | 8x32x32x32
8x32x32x32    | ConvLSTM2D             | - | 3 | 2 | 8x16x16x64
8x16x16x64    | ConvLSTM2D             | - | 3 | 1 | 8x16x16x96
8x16x16x96    | Inverted Residual x2   | Y | 3 | 2 | 8x8x8x160
8x8x8x160     | Inverted Residual      | Y | 3 | 1 | 8x8x8x320
8x8x8x320     | ConvLSTM2D             | - | 3 | 1 | 8x8x8x512
8x8x8x512     | ConvLSTM2D             | - | 3 | 1 | 8x8x512
8x8x512       | Transposed Convolution | - | 4 | 1 | 8x8x512
8x8x512       | Transposed Convolution | - | 4 | 2 | 16x16x256
16x16x256     | Transposed Convolution | - | 4 | 2 | 32x32x128
32x32x128     | Transposed Convolution | - | 4 | 2 | 64x64x64
64x64x64      | Transposed Convolution | - | 4 | 2 | 128x128x32
128x128x32    | Transposed Convolution | - | 4 | 1 | 128x128x16
128x128x16    | Transposed Convolution | - | 4 | 1 | 128x128x8
128x128x8     | Transposed Convolution | - | 4 | 1 | 128x128x3
128x128x3     | Reshape                | - | - | - | 16384x3
"""


def test_table_1(thesis):
    """Outputs, layers, time distribution and strides as the thesis prints them; deviations.md has the rest."""
    rows = flops.table1(thesis)
    assert rows == [flops.Row(*(cell.strip() for cell in line.split("|"))) for line in TABLE_1.strip().splitlines()]
    described, heads, notes = flops.describe(thesis)
    assert described == rows and len(heads) == len(rows[0])
    assert notes[0] == "43,359,947 parameters, 11,424 of them not trainable" and notes[1].startswith("55.7 GFLOP")
    assert flops.table1(build(Config(**TINY)), 5)[0].input == "5x32x32x3"
    with pytest.raises(ValueError, match="Table 1 describes the convlstm network, got a model named 'other'"):
        flops.table1(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="other"))


def test_streaming_costs_the_same():
    """One image with states: the recurrent convolution is executed, whatever came before."""
    config = Config(**TINY)
    step, whole = build_step(config), build(config)
    assert flops.flops(step, 1, executed=True) == flops.flops(step, 1) == flops.flops(whole, 1)
    assert flops.flops(whole, 1, executed=True) < flops.flops(whole, 1)
