"""Search over the texts and objects of all videos."""
