"""Chooses a deferral policy from scored examples, promises what it holds to, and says what to expect of it.

A policy is a chain of runs from the smallest size to the largest, with a threshold at each run but the last: an example
goes on to the next run where its uncertainty is at least the threshold. The examples are cut in three parts, each of
which is used once, so that no number is judged on the examples that chose it:

- *select* chooses the candidate (sizes, seeds, score) and one path of thresholds, from deferring all to deferring none;
- *certify* tests the thresholds of that one path in order, which is what makes the promise hold;
- *evaluate* says what the chosen policy does, with intervals.

Everything here is a function of numpy arrays.
"""
