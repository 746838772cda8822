"""Evaluation/reports/tables.py: exact text, what is escaped, and Table 2's numbers."""
import csv
import math

import pytest

from Evaluation.reports.tables import THESIS_TABLE_2, Table, table2

SMALL = Table("A title", ["layer", "shape", "value"], [["in|put\nx", (None, 8, 3), 0.5], ["b", (4,), None]],
              ["A note."], 2)


def test_text_is_aligned():
    assert SMALL._replace(rows=[["in", (None, 8, 3), 0.5], ["b", (4,), math.nan]]).text() == (
        "A title\n"
        "-----------------------\n"
        "layer  shape      value\n"
        "-----------------------\n"
        "in     ? x 8 x 3   0.50\n"
        "b      4              -\n"
        "-----------------------\n"
        "A note.\n")


def test_markdown_escapes():
    assert SMALL.markdown() == (
        "**A title**\n"
        "\n"
        "| layer        | shape     | value |\n"
        "|--------------|-----------|------:|\n"
        "| in\\|put<br>x | ? x 8 x 3 |  0.50 |\n"
        "| b            | 4         |     - |\n"
        "\n"
        "- A note.\n")


def test_csv_round_trips_in_full_precision(tmp_path):
    table = Table("t", ["a", "b"], [['quote " and, comma', 1 / 3], ["nothing", None]])
    paths = table.write(tmp_path / "out" / "table.v1")
    assert [p.name for p in paths] == ["table.v1.txt", "table.v1.csv", "table.v1.md"]
    rows = list(csv.reader(paths[1].open(newline="")))
    assert rows == [["a", "b"], ['quote " and, comma', repr(1 / 3)], ["nothing", ""]]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in paths)     # no leftovers


def test_a_short_row_is_an_error():
    for write in ("text", "csv", "markdown"):
        with pytest.raises(ValueError, match="table 't': want 2 cells a row, got 1 in row 0"):
            getattr(Table("t", ["a", "b"], [["x"]]), write)()


def test_table_2_sets_ours_beside_the_thesis():
    assert THESIS_TABLE_2 == {("train", "train"): 0.0034183635, ("train", "validation"): 0.0150208668,
                              ("test", "train"): 0.0258034830, ("test", "validation"): 0.0155522075}
    table = table2({("train", "train"): {"nme": 0.01, "chamfer": 0.02}, ("test", "validation"): {"nme": 0.03}},
                   "synthetic, 96 people", {"nme": "one way", "unused": "x"}, ["Scored in full."])
    assert table.columns == ["data", "metric", "source", "Training Model", "Validation Model"]
    assert table.rows[0] == ["Training Data", "nme", "ours, synthetic, 96 people", 0.01, None]
    assert table.rows[1] == ["Training Data", "nme", "thesis, BU-4DFE", 0.0034183635, 0.0150208668]
    assert table.rows[2] == ["Testing Data", "nme", "ours, synthetic, 96 people", None, 0.03]
    assert table.rows[3] == ["Testing Data", "nme", "thesis, BU-4DFE", 0.0258034830, 0.0155522075]
    assert table.rows[4] == ["Training Data", "chamfer", "ours, synthetic, 96 people", 0.02, None]
    text = table.text()
    for part in ("0.0034183635", "0.0150208668", "0.0258034830", "0.0155522075", "Ours ran on: synthetic, 96 people",
                 "nme: one way", "Scored in full."):
        assert part in text
    assert "unused" not in text


def test_table_2_refuses_unknown_keys():
    with pytest.raises(ValueError, match="want keys .* got .'val', 'train'."):
        table2({("val", "train"): {"nme": 1.0}}, "x")
