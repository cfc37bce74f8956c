# What the start.sh of the examples share: each of them reads it. Before that, `agents` names the
# agents one by one, `names` all of them in words, and `start_agent NAME` becomes the process of one.

root=$(CDPATH='' cd -- ../.. && pwd -P)
pids=()
helper=''
subscribed=''

say() { printf '%s\n' "$*"; }

die() {
    printf 'start.sh: %s\n' "$*" >&2
    exit 1
}

# --- Which Python --------------------------------------------------------------------------

has_soorma() {
    "$1" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("soorma") is None)' 2>/dev/null
}

# Sets $python, and how to call it and the soorma command from a shell as the user's is.
find_python() {
    if [ -n "${VIRTUAL_ENV:-}" ] && has_soorma "$VIRTUAL_ENV/bin/python"; then
        python=$VIRTUAL_ENV/bin/python python_command=python soorma_command=soorma
    elif has_soorma "$root/.venv/bin/python"; then
        python=$root/.venv/bin/python
        python_command=../../.venv/bin/python soorma_command=.venv/bin/soorma
    elif has_soorma python3; then
        python=python3 python_command=python3 soorma_command=soorma
    else
        die "the SDK is not installed${VIRTUAL_ENV:+ in $VIRTUAL_ENV}. In the root of the repository, run
  pip install -e sdk/python      (in an active environment with Python 3.11 or newer)
or
  make venv                      (makes one in .venv, which this script finds)"
    fi
}

# --- The platform --------------------------------------------------------------------------

check_platform() {
    "$python" - <<'END' || die "the platform is needed. In the root of the repository, $root, run
  $soorma_command dev --build"
import json, sys, urllib.request

from soorma import ClientConfig, SoormaError

try:
    config = ClientConfig.from_env()
except SoormaError as error:
    sys.exit(str(error))
healthy = True
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for service, url in (("memory", config.memory_url), ("events", config.events_url)):
    try:
        with direct.open(f"{url}/health", timeout=5) as answer:
            if json.load(answer)["service"] == service:
                continue
        reason = "what answers is another service"
    except OSError as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason
    except (ValueError, LookupError, TypeError):
        reason = "what answers is no service of Soorma"
    print(f"The {service} service is not well at {url}: {reason}", file=sys.stderr)
    healthy = False
sys.exit(not healthy)
END
}

# --- The agents ----------------------------------------------------------------------------

# Each agent leads a process group of its own: Ctrl+C reaches this script alone, which asks them once.
start_agents() {
    set -m
    for agent in "${agents[@]}"; do
        start_agent "$agent" </dev/null &
        pids+=($!)
    done
    set +m
}

# Waits, in the background and so open to signals, until the platform knows them all.
await_subscriptions() {
    "$python" - "${pids[@]}" <<'END' &
import json, os, socket, sys, time, urllib.request

from soorma import ClientConfig

wanted = {f"{socket.gethostname()}:{pid}" for pid in sys.argv[1:]}
config = ClientConfig.from_env(role="agent")
key = {"Authorization": f"Bearer {config.api_key}"} if config.api_key else {}
groups = urllib.request.Request(f"{config.events_url}/v1/events/groups", headers=key)
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
until = time.monotonic() + 30
while time.monotonic() < until:
    try:
        for pid in sys.argv[1:]:
            os.kill(int(pid), 0)
    except ProcessLookupError:
        sys.exit(1)
    try:
        with direct.open(groups, timeout=5) as answer:
            replicas = [replica for group in json.load(answer)["groups"] for replica in group["replicas"]]
    except OSError:
        replicas = []
    if wanted <= {replica["instance"].rpartition(":")[0] for replica in replicas}:
        sys.exit(0)
    time.sleep(0.1)
sys.exit(1)
END
    helper=$!
    wait "$helper"
}

# Ends the script if one of the agents is no longer there.
check_agents() {
    local number others=', the others are stopped'
    [ ${#agents[@]} -gt 1 ] || others=''
    for number in "${!pids[@]}"; do
        if ! kill -0 "${pids[number]}" 2>/dev/null; then
            wait "${pids[number]}" 2>/dev/null
            die "the ${agents[number]} has ended by itself (exit code $?)$others"
        fi
    done
}

# Lets the agents finish what they have in hand. Another signal meanwhile ends them at once.
stop() {
    trap 'kill -KILL "${pids[@]}" 2>/dev/null' INT TERM HUP
    [ -z "$helper" ] || kill "$helper" 2>/dev/null
    # A signal may have come between the start of an agent and the noting of its number: the shell knows them all.
    [ -n "$subscribed" ] || pids=($(jobs -p))
    [ ${#pids[@]} -gt 0 ] || return
    kill -TERM "${pids[@]}" 2>/dev/null
    for pid in "${pids[@]}"; do
        while kill -0 "$pid" 2>/dev/null; do
            if [ -n "$subscribed" ]; then
                wait "$pid" 2>/dev/null
            else
                sleep 0.1
                kill -TERM "$pid" 2>/dev/null # a process that is only just becoming an agent has lost the first
            fi
        done
    done
}

# --- The whole -----------------------------------------------------------------------------

# Returns when all of the agents are subscribed.
begin() {
    find_python
    check_platform
    trap stop EXIT
    trap 'say "Stopping $names"; exit 0' INT TERM HUP

    say "Starting $names with $python"
    start_agents
    if ! await_subscriptions; then
        check_agents
        die "$names could not subscribe within 30 s; their own words are above"
    fi
    subscribed=yes
}

# Goes on until Ctrl+C, or until an agent ends.
stay() {
    while check_agents; do
        sleep 1 &
        helper=$!
        wait "$helper"
    done
}
