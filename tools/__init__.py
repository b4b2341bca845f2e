"""Programs for developers: documents made from code, and the training of the text detector."""
