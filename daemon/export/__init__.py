"""What is made from a finished result for other programs: tables, subtitles, labels."""
