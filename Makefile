# All of the work is done by tools/run, which also runs without make: sh tools/run help
# Arguments for the tests go in ARGS: make test ARGS="-k delivery"

help:
	@sh tools/run help

demo demo-crash venv clean:
	@sh tools/run $@

test:
	@sh tools/run test $(ARGS)

.PHONY: help demo demo-crash test venv clean
