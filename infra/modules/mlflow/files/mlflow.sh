#!/bin/bash
# Runs the tracking server in the project's image; systemd restarts it, mlflow-check restarts it for a new password.
set -euo pipefail
source /etc/fss/mlflow.env
export AWS_DEFAULT_REGION="$REGION"

secret() { aws secretsmanager get-secret-value --secret-id "$1" --query SecretString --output text; }

# Give a secret its value unless it has one; any other failure than "no value yet" must not replace a value in use.
first_value() {
    local answer
    if ! answer=$(secret "$1" 2>&1); then
        [[ $answer == *ResourceNotFoundException* ]] || { echo "cannot read $1: $answer" >&2; exit 1; }
        aws secretsmanager put-secret-value --secret-id "$1" --secret-string "$2" >/dev/null
    fi
}

# A certificate that clients verify by itself; it holds for the server's address and for the checks on this machine.
install -d -m 0700 -o 1000 /run/fss /run/fss/tls
umask 077
openssl req -x509 -newkey rsa:3072 -nodes -days 3650 -subj /CN=mlflow -addext "subjectAltName=IP:$ADDRESS,IP:127.0.0.1" \
    -keyout /run/fss/tls/key.pem -out /run/fss/tls/cert.pem 2>/dev/null
first_value "$SECRETS-tls" "$(jq -nc --rawfile k /run/fss/tls/key.pem --rawfile c /run/fss/tls/cert.pem '{key: $k, cert: $c}')"
first_value "$SECRETS-server" "$(jq -nc --arg p "$(openssl rand -hex 24)" --arg k "$(openssl rand -hex 32)" '{password: $p, key: $k}')"
for name in $USERS; do first_value "$SECRETS-user-$name" "$(openssl rand -hex 24)"; done

# Secrets live in memory (/run) only, readable by root and by the image's user.
secret "$DATABASE_SECRET" >/run/fss/database.json
secret "$SECRETS-server" >/run/fss/server.json
secret "$SECRETS-tls" >/run/fss/tls.json
jq -r .key /run/fss/tls.json >/run/fss/tls/key.pem
jq -r .cert /run/fss/tls.json >/run/fss/tls/cert.pem
first_value "$SECRETS-certificate" "$(cat /run/fss/tls/cert.pem)"
user=$(jq -r '.username | @uri' /run/fss/database.json)
password=$(jq -r '.password | @uri' /run/fss/database.json)
database="postgresql://$user:$password@$DATABASE_HOST:5432/mlflow?sslmode=verify-full&sslrootcert=/etc/ssl/rds.pem"
cat >/run/fss/auth.ini <<INI
[mlflow]
default_permission = READ
database_uri = ${database//%/%%}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
cat >/run/fss/container.env <<ENV
MLFLOW_BACKEND_STORE_URI=$database
MLFLOW_ARTIFACTS_DESTINATION=$ARTIFACTS
MLFLOW_AUTH_CONFIG_PATH=/run/fss/auth.ini
MLFLOW_AUTH_ADMIN_PASSWORD=$(jq -r .password /run/fss/server.json)
MLFLOW_FLASK_SERVER_SECRET_KEY=$(jq -r .key /run/fss/server.json)
AWS_DEFAULT_REGION=$REGION
ENV
chown 1000 /run/fss/auth.ini /run/fss/tls/*.pem

aws ecr get-login-password | docker login --username AWS --password-stdin "${IMAGE%%/*}" >/dev/null
docker pull --quiet "$IMAGE"
docker rm --force mlflow >/dev/null 2>&1 || true
health="import ssl, urllib.request as r; r.urlopen('https://127.0.0.1:5000/health', timeout=5, \
context=ssl.create_default_context(cafile='/run/fss/tls/cert.pem'))"
exec docker run --rm --name mlflow --network host --env-file /run/fss/container.env --health-cmd "python -c \"$health\"" \
    --volume /run/fss/auth.ini:/run/fss/auth.ini:ro --volume /run/fss/tls:/run/fss/tls:ro "$IMAGE" \
    mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers 1 \
    --uvicorn-opts "--ssl-keyfile /run/fss/tls/key.pem --ssl-certfile /run/fss/tls/cert.pem"
