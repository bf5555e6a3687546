"""The default model: its weights lie beside this file, and in train/ what made them."""
