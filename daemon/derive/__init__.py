"""What is made from a finished result document alone: texts over time, tracks, density."""
