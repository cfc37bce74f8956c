"""The real agents and platform in a world whose time, network, disk and luck come from one seed."""
