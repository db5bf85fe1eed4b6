#!/bin/sh
# Builds and pushes all images, and writes their digests where Terraform reads them:
#   VERSION=0.1.0 sh infra/images/push.sh REPOSITORY infra/envs/small
set -eu
repository=$1
file=$2/images.auto.tfvars.json
sh "$(dirname "$0")/build.sh" ray-cpu ray-gpu mlflow
separator='{"images": {'
for image in ray-cpu ray-gpu mlflow; do
    docker tag "fss:$image-$VERSION" "$repository:$image-$VERSION"
    docker push --quiet "$repository:$image-$VERSION" >&2
    digest=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$repository:$image-$VERSION" |
        grep "^$repository@" | cut -d @ -f 2)
    printf '%s"%s": "%s"' "$separator" "$image" "$digest"
    separator=', '
done >"$file.new"
printf '}}\n' >>"$file.new"
mv "$file.new" "$file"
