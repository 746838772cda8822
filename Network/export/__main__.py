"""A trained network for phones and other programs:  python -m Network.export RUN --format onnx|tflite|savedmodel"""
import sys

from Network.export.export import main

if __name__ == "__main__":
    sys.exit(main())
