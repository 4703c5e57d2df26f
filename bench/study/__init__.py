"""Tests the paper's claims again on IMDB and Banking77, with sizes pre-trained here: `just study imdb DATA`."""
