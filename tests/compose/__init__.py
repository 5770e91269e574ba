"""Images and Compose files on real containers: Podman with runc and Buildah, without Docker or a registry."""
