"""Work that runs in the background at intervals."""
