"""A network over the frames of a video or webcam."""
