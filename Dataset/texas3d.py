"""Texas 3D Face Recognition Database -> subject folders:  python -m Dataset.texas3d SOURCE OUT [flags]"""
import sys

from Dataset.sources.texas3d import main

if __name__ == "__main__":
    sys.exit(main())
