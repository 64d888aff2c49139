"""Climate statistics of weather stations."""
