"""The platform's services over HTTP: thin, without state of their own."""
