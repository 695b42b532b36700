"""Pure functions on tensors: the mathematics, without configuration, state or logging."""
