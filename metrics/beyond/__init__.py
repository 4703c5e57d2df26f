"""Past the paper's tables: what else the same scores can tell."""
