#!/usr/bin/env bash
# Runs companion and librarian until Ctrl+C.

[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set -u
CDPATH='' cd -- "$(dirname -- "$0")" || exit

agents=(companion librarian)
names='companion and librarian'
start_agent() { exec "$python" "$1.py"; }
. ../common.sh

begin
say "Ready: both are subscribed. Next, in another terminal, in $PWD:"
say "  $python_command talk.py"
say 'Ctrl+C stops them.'
stay
