#!/usr/bin/env bash
# Runs the worker until Ctrl+C.

[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set -u
CDPATH='' cd -- "$(dirname -- "$0")" || exit

agents=(worker)
names='the worker'
start_agent() { exec "$python" "$1.py"; }
. ../common.sh

begin
say "Ready: the worker is subscribed. Next, in another terminal, in $PWD:"
say "  $python_command client.py Ada"
say 'Ctrl+C stops it.'
stay
