"""`soorma run`: a folder's agents, each in a process of its own, under one supervisor."""
