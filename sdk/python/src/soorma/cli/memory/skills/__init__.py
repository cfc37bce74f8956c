"""`soorma memory skills`: how things are done, as skills, prompts and rules in versions."""
