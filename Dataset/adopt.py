"""Adopt a Basel, FLAME or ICT-FaceKit face model:  python -m Dataset.adopt FILE [-o OUT.npz]"""
import sys

from Dataset.fitting.adopt import main

if __name__ == "__main__":
    sys.exit(main())
