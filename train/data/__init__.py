"""Rows, tokens and batches: from files (or the built-in generator) to fixed shapes of token ids."""
