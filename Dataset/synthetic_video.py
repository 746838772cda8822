"""A video of synthetic subjects with ground truth:  python -m Dataset.synthetic_video OUT.mp4 --kind moving --seed 0"""
import sys

from Dataset.synthesis.video import main

if __name__ == "__main__":
    sys.exit(main())
