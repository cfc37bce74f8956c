"""`soorma doctor`: its report, and its checks: a module for each group, a function for each check.

A check is handed the scene and yields findings. It changes nothing, is quick, and works with and
without a platform.
"""
