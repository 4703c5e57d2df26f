"""Watches whether what a switcher answers is still what it was chosen on, without a label: `watch.py`.

What serves and what answers files tell it of every input; it raises an alarm where the promise may have lapsed.
"""
