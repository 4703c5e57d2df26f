"""Shows how the cells of a sweep were trained: their curves side by side, on one page, from the store alone."""
