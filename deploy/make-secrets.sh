#!/bin/sh
# Makes the secrets of a deployment in a folder that only you can enter: a certificate authority of your own, a
# certificate of the platform, and keys. What is there already stays.

set -eu

usage() {
    cat <<'END'
usage: sh deploy/make-secrets.sh [--renew] [--name NAME]... [FOLDER]

  FOLDER       where to put them (default: secrets, beside this script)
  --name NAME  one more name or address by which clients call the platform; platform, localhost and loopback
               addresses are always in the certificate
  --renew      make the certificate anew, with the names that it has and those given; it is valid for 397 days

Whoever has ca.key can pass for the platform: keep it elsewhere until the certificate is renewed.

TENANT=ID is the tenant of the keys app and agents; * for all (default: that of the examples).
SOORMA=COMMAND runs soorma (default: soorma; without an installation: docker run --rm soorma:1.0.0).
END
}

die() {
    printf 'make-secrets.sh: %s\n' "$*" >&2
    exit 1
}

names='' renew=''
folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)/secrets

while [ $# -gt 0 ]; do
    case $1 in
        --name)
            case ${2:-} in
                '' | *[!A-Za-z0-9.:*-]*) die "--name needs a host name or an address, not '${2:-}'" ;;
                *:* | *[0-9].[0-9]*.[0-9]*.[0-9]*) names="$names,IP:$2" ;;
                *) names="$names,DNS:$2" ;;
            esac
            shift 2
            ;;
        --renew) renew=1; shift ;;
        -h | --help)
            usage
            exit
            ;;
        -*) usage >&2; exit 2 ;;
        *) folder=$1; shift ;;
    esac
done

soorma=${SOORMA:-soorma}
tenant=${TENANT:-00000000-0000-0000-0000-000000000000}
case $tenant in *[\"\\]*) die 'TENANT must not hold quotes or backslashes' ;; esac
command -v openssl >/dev/null || die 'needs openssl: install it (Debian, Ubuntu: apt install openssl)'

# The folder keeps others out. The files in it are as a container has to see them: it reads them as its own user,
# and docker compose mounts a file with the owner and the mode that it has here.
umask 077
mkdir -p "$folder"
chmod 0700 "$folder"
cd "$folder"
trap 'rm -f ./*.new' EXIT

# --- The certificate authority, and the certificate ------------------------------------------

make_ca() {
    [ -e ca.key ] || openssl ecparam -name prime256v1 -genkey -noout -out ca.key.new
    [ -e ca.key ] || mv ca.key.new ca.key
    printf '%s\n' '[req]' 'distinguished_name = name' 'prompt = no' 'x509_extensions = ca' '[name]' \
        'CN = Soorma deployment' '[ca]' 'basicConstraints = critical, CA:TRUE, pathlen:0' \
        'keyUsage = critical, keyCertSign, cRLSign' 'subjectKeyIdentifier = hash' >ca.new
    openssl req -new -x509 -sha256 -days 3650 -config ca.new -key ca.key -out ca.pem.new
    chmod 0644 ca.pem.new
    mv ca.pem.new ca.pem
}

# Those that the certificate has, to begin with.
names_so_far() {
    if [ -s tls.pem ]; then
        openssl x509 -in tls.pem -noout -ext subjectAltName | sed -n '2{s/IP Address:/IP:/g; s/ //g; p;}'
    else
        printf 'DNS:platform,DNS:localhost,IP:127.0.0.1,IP:0:0:0:0:0:0:0:1'
    fi
}

# In place: a file that is mounted into a container stays the same file. Its key stays, so that the two always match.
make_certificate() {
    [ -e ca.key ] || die "$folder/ca.key is not there, and only with it a certificate can be made: put it back"
    [ -e tls.key ] || openssl ecparam -name prime256v1 -genkey -noout -out tls.key.new
    [ -e tls.key ] || { chmod 0644 tls.key.new && mv tls.key.new tls.key; }
    printf '%s\n' '[req]' 'distinguished_name = name' 'prompt = no' '[name]' 'CN = platform' '[server]' \
        'basicConstraints = critical, CA:FALSE' 'keyUsage = critical, digitalSignature' \
        'extendedKeyUsage = serverAuth' 'subjectKeyIdentifier = hash' 'authorityKeyIdentifier = keyid' \
        "subjectAltName = $(names_so_far)$names" >tls.new
    openssl req -new -sha256 -config tls.new -key tls.key -out csr.new
    openssl x509 -req -sha256 -days 397 -in csr.new -CA ca.pem -CAkey ca.key -extfile tls.new \
        -extensions server -set_serial "0x$(openssl rand -hex 16)" -out tls.pem.new 2>/dev/null ||
        die "no certificate could be made with these names: ${names#,}"
    cat tls.pem.new >tls.pem
    chmod 0644 tls.pem
}

[ -e ca.pem ] || make_ca
[ -z "$renew" ] && [ -s tls.pem ] || make_certificate

# --- The keys --------------------------------------------------------------------------------

# key NAME MODE: its credential, in a file of its own.
key() {
    [ -e "$1.key" ] || $soorma keys generate >key.new ||
        die "'$soorma keys generate' failed: install Soorma, or say in SOORMA how it is run"
    [ -e "$1.key" ] || { chmod "$2" key.new && mv key.new "$1.key"; }
    cat "$1.key"
}

# grants NAME...: a list in TOML
grants() {
    printf '"%s", ' "$@" | sed 's/^/[/; s/, $/]/'
}

make_keys() {
    # One a line: of several in one, only the last could fail.
    operator=$(key operator 0600)
    app=$(key app 0600)
    agents=$(key agents 0644)
    of_tenant="tenant_id = \"$tenant\""
    [ "$tenant" != '*' ] || of_tenant='# for all tenants'
    cat >keys.new <<END
# The keys that the platform begins with (SOORMA_BOOTSTRAP_KEYS_FILE). Further ones: soorma keys create.

[[keys]]
name = "operator"
role = "operator"
credential = "$operator"

[[keys]]
name = "app"
role = "app"
$of_tenant
credential = "$app"

# Of the three agents of example 05: what they are called, take and publish, and nothing else.
[[keys]]
name = "agents"
role = "agent"
$of_tenant
agents = $(grants workflow-planner task-worker workflow-coordinator)
subscribe = $(grants goal.received@action-requests task.assigned@action-requests task.completed@action-results)
publish = $(grants task.assigned@action-requests task.completed@action-results workflow.completed@action-results)
credential = "$agents"
END
    chmod 0644 keys.new
    mv keys.new keys.toml
}

[ -e keys.toml ] || make_keys

printf 'The secrets are in %s:\n' "$folder"
cat <<'END'
  ca.pem        clients trust it: SSL_CERT_FILE
  tls.pem       the platform's certificate, and tls.key
  keys.toml     the platform's first keys
  operator.key  for you: SOORMA_API_KEY_FILE, with soorma keys, soorma doctor
  app.key       for applications, and agents.key for agents
  ca.key        for the next certificate; keep it elsewhere until then
END
