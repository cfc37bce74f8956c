"""The commands of identity: keys, and who one is."""
