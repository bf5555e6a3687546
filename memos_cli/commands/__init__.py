"""The commands: one file each, flags in, one call to the Memory API, print what comes back."""
