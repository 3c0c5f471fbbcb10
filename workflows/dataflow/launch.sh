#!/bin/sh
# Check a build, then start it on Dataflow, or resume it: run the same command again. The recipe's inputs are URLs.
#   workflows/dataflow/launch.sh PROJECT REGION BUCKET RECIPE.yaml [FLAGS OF BEAM...]
# With DRIVER=here the command `wit build` of this machine submits the jobs and waits; else a job of the flex template.
set -eu
if [ "$#" -lt 4 ]; then
    echo "usage: $0 PROJECT REGION BUCKET RECIPE.yaml [FLAGS OF BEAM...]" >&2
    exit 2
fi
project=$1 region=$2 bucket=${3#gs://} recipe=$4
shift 4
image="${region}-docker.pkg.dev/${project}/openwit/worker"
name=$(basename "$recipe" | sed 's/\.ya\{0,1\}ml$//')
workdir="gs://${bucket}/builds/${name}"

wit build "$recipe" --workdir "$workdir" --runner dataflow --check -- --project="$project" --region="$region" \
    --temp_location="gs://${bucket}/tmp" --sdk_container_image="$image" "$@"
if [ "${DRIVER:-}" = here ]; then
    exec wit build "$recipe" --workdir "$workdir" --runner dataflow -- --project="$project" --region="$region" \
        --temp_location="gs://${bucket}/tmp" --sdk_container_image="$image" "$@"
fi
gcloud storage cp "$recipe" "${workdir}.recipe.yaml"
gcloud dataflow flex-template run "openwit-build-$(date -u +%Y%m%d-%H%M%S)" --project "$project" --region "$region" \
    --template-file-gcs-location "gs://${bucket}/openwit/template.json" \
    --temp-location "gs://${bucket}/tmp" --staging-location "gs://${bucket}/staging" \
    --parameters "recipe=${workdir}.recipe.yaml" --parameters "workdir=${workdir}" \
    --parameters "worker_image=${image}" ${1:+--parameters "^;^beam_flags=$*"}
