#!/bin/bash
# Runs Ray in the project's image; ROLE in /etc/fss/node.env says whether as head, worker or autoscaler, which is no node
# and gets neither the tracking server's password nor data. systemd restarts it.
set -euo pipefail
source /etc/fss/node.env
export AWS_DEFAULT_REGION="$REGION"

metadata() {
    local session
    session=$(curl -sf -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" http://169.254.169.254/latest/api/token)
    curl -sf -H "X-aws-ec2-metadata-token: $session" "http://169.254.169.254/latest/meta-data/$1"
}

secret() { aws secretsmanager get-secret-value --secret-id "$1" --query SecretString --output text; }

# The head writes the token once; any other failure than "it has no value yet" must not replace a token in use.
if [[ $ROLE == head ]] && ! answer=$(secret "$TOKEN_SECRET" 2>&1); then
    [[ $answer == *ResourceNotFoundException* ]] || { echo "cannot read $TOKEN_SECRET: $answer" >&2; exit 1; }
    aws secretsmanager put-secret-value --secret-id "$TOKEN_SECRET" --secret-string "$(openssl rand -hex 32)" >/dev/null
fi

# Secrets live in memory (/run) only, readable by root and by the image's user.
install -d -m 0700 -o 1000 /run/fss /tmp/ray
umask 077
secret "$TOKEN_SECRET" | tr -d '\n' >/run/fss/token
cat >/run/fss/container.env <<ENV
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN_PATH=/run/fss/token
RAY_USAGE_STATS_ENABLED=0
RAY_enable_autoscaler_v2=1
HEAD_ADDRESS=$HEAD_IP:6379
AWS_REGION=$REGION
AWS_DEFAULT_REGION=$REGION
ENV
touch /run/fss/mlflow.pem
if [[ $ROLE != autoscaler ]]; then
    secret "$MLFLOW_CERT" >/run/fss/mlflow.pem
    cat >>/run/fss/container.env <<ENV
RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=1800
RAY_CLOUD_INSTANCE_ID=$(metadata instance-id)
RAY_NODE_TYPE_NAME=$(metadata tags/instance/ray-user-node-type)
MLFLOW_TRACKING_URI=$MLFLOW_URI
MLFLOW_TRACKING_SERVER_CERT_PATH=/run/fss/mlflow.pem
MLFLOW_TRACKING_USERNAME=$MLFLOW_USER
MLFLOW_TRACKING_PASSWORD=$(secret "$MLFLOW_SECRET")
ENV
fi
chown 1000 /run/fss/token /run/fss/mlflow.pem

start=(ray start --block --disable-usage-stats --metrics-export-port 8080)
case $ROLE in
    head) start+=(--head --no-monitor --port 6379 --dashboard-host 127.0.0.1 --num-cpus 0 --num-gpus 0) ;;
    worker) start+=(--address "$HEAD_IP:6379") ;;
    autoscaler)
        start=(python -m ray.autoscaler.v2.monitor --gcs-address "$HEAD_IP:6379"
            --autoscaling-config /etc/fss/autoscaler.yaml --logs-dir /tmp/ray --logging-filename "")
        ;;
esac

aws ecr get-login-password | docker login --username AWS --password-stdin "${IMAGE%%/*}" >/dev/null
docker pull --quiet "$IMAGE"
docker rm --force ray >/dev/null 2>&1 || true
shared_memory=$(awk '/MemTotal/ {print int($2 * 0.4)}' /proc/meminfo) # Ray's object store takes 30 % of the memory
# shellcheck disable=SC2086 # DOCKER_OPTIONS is a list of words
exec docker run --rm --name ray --network host --shm-size "${shared_memory}k" --ulimit nofile=65536:65536 \
    --env-file /run/fss/container.env --volume /run/fss/token:/run/fss/token:ro --volume /etc/fss:/etc/fss:ro \
    --volume /run/fss/mlflow.pem:/run/fss/mlflow.pem:ro --volume /tmp/ray:/tmp/ray $DOCKER_OPTIONS "$IMAGE" "${start[@]}"
