"""What Dropframe needs of file systems."""
