"""What is done to memory: ingest, recall, tidying, lifecycle, audit."""
