"""Where memory is kept, guarded and moved: the vault, governance, the trail."""
