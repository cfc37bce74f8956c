"""Work beside requests, or shared by services: commits, payload checks, timers, upkeep."""
