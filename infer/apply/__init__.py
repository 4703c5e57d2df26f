"""Answers the rows of a file by a switcher, however many they are, and goes on where a kill cut it off.

`table_files.py` reads and writes the four formats, `parts.py` keeps what is done beside the output, `stage.py` tells
the story. Starts without JAX.
"""
