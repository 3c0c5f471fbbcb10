"""Run builds on Dataflow: the image of its workers, and a flex template that starts a build."""
