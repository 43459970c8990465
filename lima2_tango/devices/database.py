"""What the server writes to the Tango database before it answers, and what it clears there."""

import tango

SERVER = "lima2_tango"
PROCESSING_FAMILY = "limaprocessing"


def listed(database: tango.Database, instance: str) -> dict[str, str]:
    """Class of each device that the database lists for this server instance; empty for an unknown instance."""
    entries = list(database.get_device_class_list(f"{SERVER}/{instance}"))
    return {name: made for name, made in zip(entries[::2], entries[1::2], strict=True) if made != "DServer"}


def publish(database: tango.Database, schemas: dict[str, tuple[str, str]], versions: dict[str, str]) -> None:
    """Write the JSON schemas ({class: (attribute, schema)}) and the class property Version ({class: version})."""
    for class_name, (attribute, schema) in schemas.items():
        database.put_class_attribute_property(class_name, {attribute: {"schema": [schema]}})
    for class_name, version in versions.items():
        database.put_class_property(class_name, {"Version": [version]})


def processing_name(receiver: str, uuid: str, rank: int) -> str:
    """`<domain>/limaprocessing/<uuid>@<rank>`, in the receiver's own domain (contract section 1.4)."""
    return f"{receiver.split('/')[0]}/{PROCESSING_FAMILY}/{uuid}@{rank}"
