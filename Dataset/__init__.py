"""Faces on disk and in space: geometry, face model, synthesis, fitting, data sets. Never imports TensorFlow or
Keras."""
