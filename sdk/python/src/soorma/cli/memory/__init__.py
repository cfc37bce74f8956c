"""`soorma memory`: what is known, as passages, and what was said, as interactions."""
