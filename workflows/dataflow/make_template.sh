#!/bin/sh
# Build the worker image and put the flex template beside it. Run it at the top of the repository.
#   workflows/dataflow/make_template.sh PROJECT REGION BUCKET
set -eu
if [ "$#" -ne 3 ]; then
    echo "usage: $0 PROJECT REGION BUCKET" >&2
    exit 2
fi
project=$1 region=$2 bucket=${3#gs://}
image="${region}-docker.pkg.dev/${project}/openwit/worker"

gcloud artifacts repositories describe openwit --project "$project" --location "$region" > /dev/null 2>&1 ||
    gcloud artifacts repositories create openwit --project "$project" --location "$region" --repository-format docker
gcloud auth configure-docker "${region}-docker.pkg.dev" --quiet
docker build --file workflows/dataflow/Dockerfile --tag "$image" .
docker push "$image"
gcloud dataflow flex-template build "gs://${bucket}/openwit/template.json" --project "$project" \
    --image "$image" --sdk-language PYTHON --metadata-file workflows/dataflow/metadata.json
echo "worker image: $image"
