"""Tests, one input after the other, whether what comes in still is what a switcher was calibrated on.

Each test is a *test martingale*: a wealth that starts at 1, is never negative and, as long as nothing has changed, has
the same expectation after every input as before it. By Ville's inequality (Ville 1939, Étude critique de la notion de
collectif) the chance that it ever reaches 1/α is then at most α, however long the stream is and whenever one looks; so
an alarm at 1/α is false with probability at most α over the whole stream.

- `conformal.py` turns observations into p-values that are independent and uniform as long as calibration examples and
  inputs are exchangeable, which takes the error of a finite calibration sample into account exactly;
- `bets.py` has densities on [0, 1], the factors by which the wealth grows;
- `change.py` mixes the wealths of bets that begin at different times, so that a change after a long quiet time is found
  as well;
- `bounds.py` bounds a share at all times at once, and measures how far two histograms are apart.

Everything here is a function of numpy arrays, and starts in an instant.
"""
