"""Whether a compiled file fits a device: what it needs, what devices have, and what would make it fit."""
