"""Agents and a platform as they are, in a world whose time, network, disk and luck come from one seed."""
