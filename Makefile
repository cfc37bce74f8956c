# All of the work is done by tools/run, which also runs without make: sh tools/run help
# Arguments go in ARGS: make test ARGS="-k delivery", make bench ARGS=--quick

help:
	@sh tools/run help

demo demo-crash venv clean:
	@sh tools/run $@

test prove lowest bench:
	@sh tools/run $@ $(ARGS)

.PHONY: help demo demo-crash test prove lowest bench venv clean
