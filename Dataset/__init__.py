"""WHAT A FACE IS, on disk and in space. Never imports tensorflow or keras."""
