"""Turns on JAX's persistent compilation cache: what was compiled once on this machine is not compiled again."""

import os
from pathlib import Path

import jax


def keep_compiled() -> Path:
    """Turns the cache on, in JAX_COMPILATION_CACHE_DIR or else in the user's cache folder, and returns the folder."""
    from_environment = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(from_environment) if from_environment else caches / "edgewise" / "jax"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
