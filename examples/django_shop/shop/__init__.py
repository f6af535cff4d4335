"""The app: one model, and the tasks about it."""
