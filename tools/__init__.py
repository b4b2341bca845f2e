"""Programs for developers: documents made from code, and checks."""
