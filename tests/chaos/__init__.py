"""Experiments: real processes, real servers, faults on purpose, and the audit at the end of each.

Every experiment says its seed and its counts, and among these how often the window it aims at was hit: a run that
never hit it proves nothing and fails as "not exercised". The full sizes run with `make chaos`, a tenth of some of
them with the tests.
"""
