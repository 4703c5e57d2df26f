"""Turns rows, from files, the Hub or the built-in generator, into batches of token ids of few shapes."""
