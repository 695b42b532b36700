"""Running code nobody trusts: what it may touch, and how its verdict is reached without believing it."""
