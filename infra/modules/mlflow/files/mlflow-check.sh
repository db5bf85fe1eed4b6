#!/bin/bash
# Every two minutes: makes the users, and restarts the server when Docker has called it unhealthy or
# AWS has rotated the database's password.
set -euo pipefail
source /etc/fss/mlflow.env
export AWS_DEFAULT_REGION="$REGION"
secret() { aws secretsmanager get-secret-value --secret-id "$1" --query SecretString --output text; }

status=$(docker inspect --format '{{.State.Health.Status}}' mlflow 2>/dev/null || echo absent)
if [[ $status == unhealthy ]]; then
    echo "the server does not answer: restarting it"
    systemctl restart mlflow.service
elif [[ $status == healthy ]] && ! cmp -s <(secret "$DATABASE_SECRET") /run/fss/database.json; then
    echo "the database has a new password: restarting the server"
    systemctl restart mlflow.service
elif [[ $status == healthy ]]; then
    for name in $USERS; do
        if [[ -e /run/fss/user-$name ]]; then continue; fi
        # Passwords go through standard input: command lines show up in process lists.
        code=$(jq -r '"user = \"admin:\(.password)\""' /run/fss/server.json | curl -s --config - -o /run/fss/answer.json \
            -w '%{http_code}' --cacert /run/fss/tls/cert.pem -H 'Content-Type: application/json' \
            https://127.0.0.1:5000/api/2.0/mlflow/users/create \
            --data "@"<(secret "$SECRETS-user-$name" | jq -Rc --arg name "$name" '{username: $name, password: .}'))
        if [[ $code == 200 ]] || grep -q RESOURCE_ALREADY_EXISTS /run/fss/answer.json; then
            touch "/run/fss/user-$name"
        else
            echo "cannot make the user $name: $code $(cat /run/fss/answer.json)" >&2
            exit 1
        fi
    done
fi
