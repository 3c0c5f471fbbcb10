"""Small pieces that several packages of the builder share."""
