"""Object storage: results go there too, and videos are taken from there. Needs ``obstore``, the extra ``s3``."""
