"""Single pictures of videos, as JPEG."""
