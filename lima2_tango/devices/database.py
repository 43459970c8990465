"""What the server writes to the Tango database before it answers, and what it clears there."""

import tango

SERVER = "lima2_tango"
PROCESSING_FAMILY = "limaprocessing"


def classes_of(instance: str) -> list[str]:
    """Tango classes that the database lists for this server instance; empty for an unknown one."""
    listed = tango.Database().get_server_class_list(f"{SERVER}/{instance}")
    return [name for name in listed if name and name != "DServer"]


def publish(schemas: dict[str, tuple[str, str]], versions: dict[str, str]) -> None:
    """Write the JSON schemas ({class: (attribute, schema)}) and the class property Version ({class: version})."""
    database = tango.Database()
    for class_name, (attribute, schema) in schemas.items():
        database.put_class_attribute_property(class_name, {attribute: {"schema": [schema]}})
    for class_name, version in versions.items():
        database.put_class_property(class_name, {"Version": [version]})


def purge(instance: str, class_names: list[str]) -> list[str]:
    """Delete the processing devices that a killed predecessor left (contract R8); returns their names."""
    database = tango.Database()
    left: list[str] = []
    for class_name in class_names:
        names = list(database.get_device_name(f"{SERVER}/{instance}", class_name))
        for name in names:
            database.delete_device(name)
        left += names
    return left


def processing_name(receiver: str, uuid: str, rank: int) -> str:
    """`<domain>/limaprocessing/<uuid>@<rank>`, in the receiver's own domain (contract section 1.4)."""
    return f"{receiver.split('/')[0]}/{PROCESSING_FAMILY}/{uuid}@{rank}"
