#!/usr/bin/env bash
# Runs planner, worker and coordinator together until Ctrl+C. Started once more, in another terminal, it
# runs replicas of them, which share the work.

[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set -u
CDPATH='' cd -- "$(dirname -- "$0")" || exit

agents=(planner worker coordinator)
names='planner, worker and coordinator'
start_agent() { exec "$python" "$1.py"; }
. ../common.sh

begin
say "Ready: all three are subscribed. Next, in another terminal, in $PWD:"
say "  $python_command client.py \"Write a blog post about Docker\""
say 'Ctrl+C stops them.'
stay
