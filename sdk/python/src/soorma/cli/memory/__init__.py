"""`soorma memory`: what is known, as passages that are found by what they say."""
