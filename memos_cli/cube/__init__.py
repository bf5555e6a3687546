"""The format on disk; knows no model and no network."""
