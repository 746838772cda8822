"""A video of synthetic subjects whose truth is known:  python -m Dataset.synthetic_video OUT.mp4 --kind moving --seed 0"""
import sys

from Dataset.synthesis.video import main

if __name__ == "__main__":
    sys.exit(main())
