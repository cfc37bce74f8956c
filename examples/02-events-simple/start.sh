#!/usr/bin/env bash
# Runs two subscribers, warehouse and accounts, until Ctrl+C. Started once more, in another terminal, it runs
# replicas of them, which share the work.

[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set -u
CDPATH='' cd -- "$(dirname -- "$0")" || exit

agents=(warehouse accounts)
names='warehouse and accounts'
start_agent() { exec "$python" subscriber.py "$1"; }
. ../common.sh

begin
say "Ready: both are subscribed. Next, in another terminal, in $PWD:"
say "  $python_command publisher.py tea coffee"
say 'Ctrl+C stops them.'
stay
