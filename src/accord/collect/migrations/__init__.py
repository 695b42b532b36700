"""Migrations of the store, one file a revision in `versions`; `migrate.py` runs them when a store is opened."""
