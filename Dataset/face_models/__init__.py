"""Other people's face models: one file per layout reads it as it is (raw.py), adopt.py makes our `FaceModel` of it."""
