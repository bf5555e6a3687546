"""How the default model is made. No command imports this."""
