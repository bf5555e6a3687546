"""The example cubes, their corpora, and what makes the one from the other."""
