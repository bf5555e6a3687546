"""memos: the package manager and loader for the memory of language models."""

__version__ = "0.1.0"
