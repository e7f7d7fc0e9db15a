"""The parts of perf/compare. `plan.py` says what is measured on what; `results.py`, `rows.py` and `summary.py` what it means."""
