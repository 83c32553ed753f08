#!/bin/sh
# Prints a .env for docker-compose.yml with fresh secrets: deploy/secrets.sh > .env
set -eu
umask 077
random() { head -c "$1" /dev/urandom | base64 | tr -d '\n'; }
word() { random 48 | tr -dc 'A-Za-z0-9' | head -c 40; }
cat <<EOF
ENVIRONMENT=production
ALLOWED_HOSTS=${ALLOWED_HOSTS:-localhost,127.0.0.1}
SECRET_KEY=$(word)
ENCRYPTION_KEYS=k1:$(random 32)
POSTGRES_PASSWORD=$(word)
BROKER_PASSWORD=$(word)
LIVE_PASSWORD=$(word)
METRICS_TOKEN=$(word)
EOF
