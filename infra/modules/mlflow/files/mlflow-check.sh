#!/bin/bash
# Every two minutes: makes the user that jobs log in as, and restarts the server when Docker has called it unhealthy or
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
elif [[ $status == healthy && ! -e /run/fss/jobs-user ]]; then
    # Passwords go through standard input: command lines show up in process lists.
    code=$(jq -r '"user = \"admin:\(.password)\""' /run/fss/server.json | curl -s --config - -o /run/fss/answer.json \
        -w '%{http_code}' -H 'Content-Type: application/json' http://127.0.0.1:5000/api/2.0/mlflow/users/create \
        --data "@"<(secret "$JOBS_SECRET" | jq -Rc '{username: "jobs", password: .}'))
    if [[ $code == 200 ]] || grep -q RESOURCE_ALREADY_EXISTS /run/fss/answer.json; then
        touch /run/fss/jobs-user
    else
        echo "cannot make the user that jobs log in as: $code $(cat /run/fss/answer.json)" >&2
        exit 1
    fi
fi
