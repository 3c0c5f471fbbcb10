"""Keep files in folders of this machine or in an object store, by the same paths."""

from openwit.schemas.common.storage.store_path import StorePath, as_path

__all__ = ["StorePath", "as_path"]
