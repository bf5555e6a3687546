"""What a program says to memos: the Memory API, the reader of prompts and sources."""
