"""`soorma doctor`: its report and its checks, with a module for each group of checks.

A check is a function that takes the scene and yields findings. It changes nothing, is quick, and
works with and without a running platform.
"""
