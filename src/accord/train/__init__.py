"""The loop, its sources of batches, its objectives and its hooks."""
