"""Collecting preferences from people: store, labelling app, quality, import and export."""
