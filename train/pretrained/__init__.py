"""Finds checkpoints, reads them tensor by tensor and writes them: Hugging Face's layout, T5X's, and the Hub.

`find` starts without JAX.
"""
