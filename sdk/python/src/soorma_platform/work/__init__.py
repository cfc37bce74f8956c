"""Work beside requests, or behind several services: commits on their way, payload checks, timers,
upkeep.
"""
