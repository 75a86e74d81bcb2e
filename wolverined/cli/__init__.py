"""wolverinectl."""
