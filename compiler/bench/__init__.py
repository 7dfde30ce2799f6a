"""How long a compiled file takes, and how much memory: measured in processes of its own, files in turn."""
