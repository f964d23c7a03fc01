"""The command line itself: misspelled words, version, completion."""
