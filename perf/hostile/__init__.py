"""What perf/attacks sets upon a quorum, and what it measures of it."""
