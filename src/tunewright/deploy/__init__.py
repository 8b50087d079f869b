"""ModelVersion to Rollout: who answers whom, what is known of a candidate, and what follows from it."""
