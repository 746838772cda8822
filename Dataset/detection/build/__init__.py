"""Builds the files under Dataset/detection/assets."""
