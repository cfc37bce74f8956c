#!/usr/bin/env bash
# Runs the answerer until Ctrl+C. Started once more, in another terminal, it runs a replica, which shares the
# questions.

[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set -u
CDPATH='' cd -- "$(dirname -- "$0")" || exit

agents=(answerer)
names='the answerer'
start_agent() { exec "$python" "$1.py"; }
. ../common.sh

begin
say "Ready: the answerer is subscribed. Next, in another terminal, in $PWD:"
say "  $python_command knowledge.py"
say "  $python_command ask.py"
say 'Ctrl+C stops it.'
stay
