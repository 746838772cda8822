"""Trained networks as files: packed weights, ONNX, TFLite, SavedModel, int8."""
