"""The platform's HTTP faces: thin, and without state of their own."""
