#!/bin/sh
# Builds images as fss:<image>-$VERSION:   VERSION=0.1.0 sh infra/images/build.sh ray-cpu ray-gpu mlflow
# The first build writes pins.env, the digests of what it started from; later ones take exactly that. Keep it in git.
set -eu
cd "$(dirname "$0")/../.."
pins=infra/images/pins.env
base=python:3.11-slim-bookworm
certificates=https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem
if [ ! -e "$pins" ]; then
    docker pull --quiet --platform linux/amd64 "$base"
    digest=$(docker image inspect --format '{{index .RepoDigests 0}}' "$base" | cut -d @ -f 2)
    checksum=$(curl -fsS "$certificates" | sha256sum | cut -d ' ' -f 1)
    printf 'PYTHON_DIGEST=%s\nRDS_CHECKSUM=sha256:%s\n' "$digest" "$checksum" >"$pins"
fi
# shellcheck source=/dev/null
. "./$pins"
for image in "$@"; do
    docker build --platform linux/amd64 --target "$image" --tag "fss:$image-$VERSION" --file infra/images/Dockerfile \
        --build-arg "PYTHON_DIGEST=$PYTHON_DIGEST" --build-arg "RDS_CHECKSUM=$RDS_CHECKSUM" .
done
