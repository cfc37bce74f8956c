"""`soorma memory`: what is known, what was said, and how things are done."""
